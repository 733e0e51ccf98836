//! Which event is what: kinds, identities and times in closed form.
//!
//! Of 50 events in a row the first is a person, the next three are auctions, the other 46 are bids. So the number of rows of a kind
//! before an event, the event of a row, and the newest person and auction at an event are plain arithmetic.

use super::random::Draws;
use serde::{Deserialize, Serialize};
use std::sync::LazyLock;
use waterclock_core::time::Timestamp;

/// Events in a round.
const ROUND: u64 = 50;
/// The first identity of people and auctions.
const FIRST_ID: u64 = 1_000;
/// People who bid and sell.
const ACTIVE_PEOPLE: u64 = 1_000;
/// Auctions that are open at a time.
pub(super) const AUCTIONS_IN_FLIGHT: u64 = 100;
/// The hot auction, seller and bidder change after so many new ones.
const HOT: u64 = 100;

/// The three tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// People register.
    Person,
    /// Auctions open.
    Auction,
    /// People bid.
    Bid,
}

impl Kind {
    /// The first event of a round that is of this kind, and how many of them there are.
    fn place(self) -> (u64, u64) {
        match self {
            Kind::Person => (0, 1),
            Kind::Auction => (1, 3),
            Kind::Bid => (4, 46),
        }
    }

    /// How many of the events below this number are of this kind.
    pub(super) fn rows_before(self, event: u64) -> u64 {
        let (first, count) = self.place();
        event / ROUND * count + (event % ROUND).saturating_sub(first).min(count)
    }

    /// The event of the row of this number.
    pub(super) fn event_of_row(self, row: u64) -> u64 {
        let (first, count) = self.place();
        row / count * ROUND + first + row % count
    }
}

/// What the generator is asked for. It stands in each commit record, beside the numbers that mean nothing without it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The seed of all that is random.
    pub seed: u64,
    /// Events of all three kinds per second of event time.
    pub rate: u64,
    /// The event time of event 0.
    pub start: Timestamp,
    /// By how much an event's time may lie before its place in the order, in microseconds.
    pub out_of_order_us: u64,
    /// The share of events that come late.
    pub late_share: f64,
    /// By how much those come late, in microseconds.
    pub late_by_us: u64,
}

impl Default for Settings {
    /// Seed 0, 10,000 events per second from 2015-07-15T00:00:00Z on, in order.
    fn default() -> Self {
        let start = Timestamp(1_436_918_400_000_000);
        Self { seed: 0, rate: 10_000, start, out_of_order_us: 0, late_share: 0.0, late_by_us: 60_000_000 }
    }
}

/// 10 to the power of 6 i / 2^12, and of 6 i / 2^24, for i below 2^12. By multiplication alone, which gives the same bits on every
/// machine; a library's `pow` need not.
static POWERS: LazyLock<(Vec<f64>, Vec<f64>)> = LazyLock::new(|| {
    let powers = |base: f64| std::iter::successors(Some(1.0), |power| Some(power * base)).take(1 << 12).collect();
    (powers(1.0033786221027048), powers(1.0000008234689381))
});

/// Columns draw from places of their own, so that leaving one out changes no other.
#[derive(Debug, Clone, Copy)]
pub(super) enum Draw {
    Time,
    Seller,
    Auction,
    Bidder,
    Price,
    Reserve,
    Channel,
    Url,
    Category,
    Expiry,
    Name,
    Description,
    Email,
    Card,
    City,
    State,
    Extra,
}

impl Settings {
    pub(super) fn draws(&self, event: u64, draw: Draw) -> Draws {
        Draws::of(self.seed, event, draw as u64)
    }

    /// The event's place on the time line, before any disorder, in microseconds.
    fn planned_time(&self, event: u64) -> i64 {
        self.start.0 + (u128::from(event) * 1_000_000 / u128::from(self.rate)) as i64
    }

    /// The event's time, in microseconds.
    pub(super) fn time(&self, event: u64) -> i64 {
        let planned = self.planned_time(event);
        if self.out_of_order_us == 0 && self.late_share == 0.0 {
            return planned;
        }
        let mut draws = self.draws(event, Draw::Time);
        let disorder = if self.out_of_order_us == 0 { 0 } else { draws.below(self.out_of_order_us + 1) };
        let late = if draws.unit() < self.late_share { self.late_by_us } else { 0 };
        planned - (disorder + late) as i64
    }

    /// When an auction ends: on average after as long as it takes to open as many auctions as are in flight.
    pub(super) fn expiry(&self, event: u64) -> i64 {
        let horizon = self.planned_time(event + AUCTIONS_IN_FLIGHT * ROUND / 3) - self.planned_time(event);
        self.time(event) + 1 + self.draws(event, Draw::Expiry).below((horizon * 2).max(1) as u64) as i64
    }

    /// Any of the active people.
    fn some_person(&self, event: u64, draws: &mut Draws) -> u64 {
        let people = newest_person(event) + 1;
        let active = people.min(ACTIVE_PEOPLE);
        people - active + draws.below(active)
    }

    /// The seller of an auction.
    pub(super) fn seller(&self, event: u64) -> i64 {
        let mut draws = self.draws(event, Draw::Seller);
        let person = if draws.below(4) > 0 { newest_person(event) / HOT * HOT } else { self.some_person(event, &mut draws) };
        (FIRST_ID + person) as i64
    }

    /// The bidder of a bid.
    pub(super) fn bidder(&self, event: u64) -> i64 {
        let mut draws = self.draws(event, Draw::Bidder);
        let newest = newest_person(event);
        let person = if draws.below(4) > 0 { (newest / HOT * HOT + 1).min(newest) } else { self.some_person(event, &mut draws) };
        (FIRST_ID + person) as i64
    }

    /// The auction of a bid.
    pub(super) fn auction(&self, event: u64) -> i64 {
        let mut draws = self.draws(event, Draw::Auction);
        let newest = newest_auction(event);
        let oldest = newest.saturating_sub(AUCTIONS_IN_FLIGHT);
        let auction = if draws.below(2) > 0 { newest / HOT * HOT } else { oldest + draws.below(newest - oldest + 1) };
        (FIRST_ID + auction) as i64
    }

    /// A price: from 100 to 100,000,000, uniform in its logarithm.
    pub(super) fn price(&self, event: u64, draw: Draw) -> i64 {
        let bits = self.draws(event, draw).bits();
        let (coarse, fine) = (bits >> 52, (bits >> 40) & 0xFFF);
        (POWERS.0[coarse as usize] * POWERS.1[fine as usize] * 100.0).round() as i64
    }
}

/// The number, from 0, of the newest person at an event.
fn newest_person(event: u64) -> u64 {
    event / ROUND
}

/// The number, from 0, of the newest auction at an event that is not before the first.
fn newest_auction(event: u64) -> u64 {
    Kind::Auction.rows_before(event + 1).saturating_sub(1)
}

/// The identity of the person or auction that an event makes.
pub(super) fn identity(kind: Kind, event: u64) -> i64 {
    (FIRST_ID + kind.rows_before(event)) as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kind_of(event: u64) -> Kind {
        match event % 50 {
            0 => Kind::Person,
            1..=3 => Kind::Auction,
            _ => Kind::Bid,
        }
    }

    #[test]
    fn rows_are_counted_and_found_as_if_one_by_one() {
        for kind in [Kind::Person, Kind::Auction, Kind::Bid] {
            let mut rows = 0;
            for event in 0..400 {
                assert_eq!(kind.rows_before(event), rows, "{kind:?} {event}");
                if kind_of(event) == kind {
                    assert_eq!(kind.event_of_row(rows), event);
                    rows += 1;
                }
            }
        }
    }

    proptest! {
        #[test]
        fn bids_and_auctions_refer_to_what_exists(seed: u64, round in 0u64..1_000_000, place in 4u64..50) {
            let settings = Settings { seed, ..Settings::default() };
            let event = round * 50 + place;
            let (people, auctions) = (Kind::Person.rows_before(event) as i64, Kind::Auction.rows_before(event) as i64);
            prop_assert!((1_000..1_000 + people).contains(&settings.bidder(event)));
            prop_assert!((1_000..1_000 + auctions).contains(&settings.auction(event)));
            prop_assert!((1_000..1_000 + people).contains(&settings.seller(round * 50 + 1)));
            prop_assert!((100..=100_000_000).contains(&settings.price(event, Draw::Price)));
        }

        #[test]
        fn times_stay_within_the_disorder(seed: u64, event in 0u64..1_000_000_000, disorder in 0u64..10_000_000) {
            let settings = Settings { seed, out_of_order_us: disorder, ..Settings::default() };
            let behind = settings.planned_time(event) - settings.time(event);
            prop_assert!((0..=disorder as i64).contains(&behind));
            prop_assert!(settings.expiry(event) > settings.time(event));
        }
    }

    #[test]
    fn half_of_the_bids_go_to_the_hot_auction() {
        let settings = Settings::default();
        let events = || (0..10_000u64).map(|row| Kind::Bid.event_of_row(row + 1_000_000));
        let hot = events().filter(|&event| settings.auction(event) as u64 - 1_000 == newest_auction(event) / 100 * 100).count();
        assert!((4_900..5_300).contains(&hot), "{hot}");
        let hot = events().filter(|&event| settings.bidder(event) as u64 - 1_001 == newest_person(event) / 100 * 100).count();
        assert!((7_200..7_800).contains(&hot), "{hot}");
    }
}
