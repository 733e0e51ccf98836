//! The Nexmark queries that need no memory, in SQL that Waterclock and DataFusion both take.

/// A query over the table `bid`.
#[derive(Debug, Clone, Copy)]
pub struct Query {
    /// Nexmark's name for it.
    pub name: &'static str,
    /// The SELECT.
    pub sql: &'static str,
}

/// All of them.
pub const QUERIES: [Query; 6] = [
    Query { name: "q0", sql: "SELECT auction, bidder, price, date_time, extra FROM bid" },
    Query { name: "q1", sql: "SELECT auction, bidder, 0.908 * price AS price, date_time, extra FROM bid" },
    Query { name: "q2", sql: "SELECT auction, price FROM bid WHERE auction % 123 = 0" },
    Query {
        name: "q14",
        sql: "SELECT auction, bidder, 0.908 * price AS price,
                     CASE WHEN extract(hour FROM date_time) >= 8 AND extract(hour FROM date_time) <= 18 THEN 'dayTime'
                          WHEN extract(hour FROM date_time) <= 6 OR extract(hour FROM date_time) >= 20 THEN 'nightTime'
                          ELSE 'otherTime' END AS bid_time_type,
                     date_time, extra, length(extra) - length(replace(extra, 'c', '')) AS c_counts
              FROM bid WHERE 0.908 * price > 1000000 AND 0.908 * price < 50000000",
    },
    Query {
        name: "q21",
        sql: "SELECT auction, bidder, price, channel,
                     CASE lower(channel) WHEN 'apple' THEN '0' WHEN 'google' THEN '1' WHEN 'facebook' THEN '2' WHEN 'baidu' THEN '3'
                          ELSE (regexp_match(url, '(&|^)channel_id=([^&]*)'))[2] END AS channel_id
              FROM bid
              WHERE (regexp_match(url, '(&|^)channel_id=([^&]*)'))[2] IS NOT NULL
                 OR lower(channel) IN ('apple', 'google', 'facebook', 'baidu')",
    },
    Query {
        name: "q22",
        sql: "SELECT auction, bidder, price, channel, split_part(url, '/', 4) AS dir1, split_part(url, '/', 5) AS dir2,
                     split_part(url, '/', 6) AS dir3 FROM bid",
    },
];
