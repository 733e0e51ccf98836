//! The tables' columns, made for any run of rows, each without the others.

use super::event::{Draw, Kind, Settings, identity};
use super::random::Draws;
use arrow::array::{ArrayRef, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::buffer::{Buffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use std::ops::Range;
use std::sync::Arc;
use waterclock_core::time::Timestamp;
use waterclock_core::{Error, ErrorKind, Result, ResultExt};

const HOT_CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];
const COLD_CHANNELS: u64 = 10_000;
const CITIES: [&str; 10] =
    ["Phoenix", "Los Angeles", "San Francisco", "Boise", "Portland", "Bend", "Redmond", "Seattle", "Kent", "Cheyenne"];
const STATES: [&str; 6] = ["AZ", "CA", "ID", "OR", "WA", "WY"];
const FIRST_NAMES: [&str; 11] = ["Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter"];
const LAST_NAMES: [&str; 9] = ["Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris"];

/// The columns of a table.
pub fn schema(kind: Kind) -> SchemaRef {
    let number = |name: &str| Field::new(name, DataType::Int64, true);
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let time = |name: &str| Field::new(name, Timestamp::DATA_TYPE, true);
    Arc::new(Schema::new(match kind {
        Kind::Person => vec![
            number("id"),
            text("name"),
            text("email_address"),
            text("credit_card"),
            text("city"),
            text("state"),
            time("date_time"),
            text("extra"),
        ],
        Kind::Auction => vec![
            number("id"),
            text("item_name"),
            text("description"),
            number("initial_bid"),
            number("reserve"),
            time("date_time"),
            time("expires"),
            number("seller"),
            number("category"),
            text("extra"),
        ],
        Kind::Bid => {
            vec![number("auction"), number("bidder"), number("price"), text("channel"), text("url"), time("date_time"), text("extra")]
        }
    }))
}

/// The bytes of an average row.
pub(super) fn average_bytes(kind: Kind) -> u64 {
    match kind {
        Kind::Person => 200,
        Kind::Auction => 500,
        Kind::Bid => 100,
    }
}

/// One column of a run of rows.
pub(super) fn column(settings: &Settings, kind: Kind, name: &str, rows: Range<u64>) -> Result<ArrayRef> {
    let s = settings;
    let numbers =
        |of: &dyn Fn(u64) -> i64| Ok(Arc::new(rows.clone().map(|row| of(kind.event_of_row(row))).collect::<Int64Array>()) as ArrayRef);
    let times = |of: &dyn Fn(u64) -> i64| {
        let values = rows.clone().map(|row| of(kind.event_of_row(row))).collect::<Vec<_>>();
        Ok(Arc::new(TimestampMicrosecondArray::from(values)) as ArrayRef)
    };
    let texts = |of: &dyn Fn(u64, &mut Vec<u8>)| texts(kind, rows.clone(), of);
    match (kind, name) {
        (_, "date_time") => times(&|event| s.time(event)),
        (_, "extra") => texts(&|event, out| extra(s, kind, event, out)),
        (Kind::Person | Kind::Auction, "id") => numbers(&|event| identity(kind, event)),
        (Kind::Bid, "auction") => numbers(&|event| s.auction(event)),
        (Kind::Bid, "bidder") => numbers(&|event| s.bidder(event)),
        (Kind::Bid, "price") => numbers(&|event| s.price(event, Draw::Price)),
        (Kind::Bid, "channel") => texts(&|event, out| channel(s, event, out)),
        (Kind::Bid, "url") => texts(&|event, out| url(s, event, out)),
        (Kind::Auction, "initial_bid") => numbers(&|event| s.price(event, Draw::Price)),
        (Kind::Auction, "reserve") => numbers(&|event| s.price(event, Draw::Price) + s.price(event, Draw::Reserve)),
        (Kind::Auction, "expires") => times(&|event| s.expiry(event)),
        (Kind::Auction, "seller") => numbers(&|event| s.seller(event)),
        (Kind::Auction, "category") => numbers(&|event| 10 + s.draws(event, Draw::Category).below(5) as i64),
        (Kind::Auction, "item_name") => texts(&|event, out| words(&mut s.draws(event, Draw::Name), 20, out)),
        (Kind::Auction, "description") => texts(&|event, out| words(&mut s.draws(event, Draw::Description), 100, out)),
        (Kind::Person, "name") => texts(&|event, out| person_name(s, event, out)),
        (Kind::Person, "email_address") => texts(&|event, out| email(s, event, out)),
        (Kind::Person, "credit_card") => texts(&|event, out| card(s, event, out)),
        (Kind::Person, "city") => texts(&|event, out| out.extend(pick(&mut s.draws(event, Draw::City), &CITIES))),
        (Kind::Person, "state") => texts(&|event, out| out.extend(pick(&mut s.draws(event, Draw::State), &STATES))),
        _ => Err(Error::internal(format!("the table {kind:?} has no column '{name}'"))),
    }
}

/// A column of text in one buffer: no allocation per row.
fn texts(kind: Kind, rows: Range<u64>, of: &dyn Fn(u64, &mut Vec<u8>)) -> Result<ArrayRef> {
    let mut bytes = Vec::new();
    let mut lengths = Vec::with_capacity((rows.end - rows.start) as usize);
    for row in rows {
        let before = bytes.len();
        of(kind.event_of_row(row), &mut bytes);
        lengths.push(bytes.len() - before);
    }
    let array = StringArray::try_new(OffsetBuffer::from_lengths(lengths), Buffer::from_vec(bytes), None);
    Ok(Arc::new(array.or_error(ErrorKind::Internal, || "making text".into())?))
}

fn pick<const N: usize>(draws: &mut Draws, of: &[&'static str; N]) -> &'static [u8] {
    of[draws.below(N as u64) as usize].as_bytes()
}

/// Letters with spaces in between, 3 to `most` of them.
fn words(draws: &mut Draws, most: u64, out: &mut Vec<u8>) {
    let length = 3 + draws.below(most - 3) as usize;
    let start = out.len();
    draws.letters(length, out);
    // A letter in thirteen ends a word; a text neither begins nor ends with a space.
    for letter in &mut out[start + 1..start + length - 1] {
        if draws.below(13) == 0 {
            *letter = b' ';
        }
    }
}

/// The number of a bid's channel if it is not a hot one.
fn cold_channel(settings: &Settings, event: u64) -> Result<u64, &'static [u8]> {
    let mut draws = settings.draws(event, Draw::Channel);
    if draws.below(2) > 0 { Err(pick(&mut draws, &HOT_CHANNELS)) } else { Ok(draws.below(COLD_CHANNELS)) }
}

fn channel(settings: &Settings, event: u64, out: &mut Vec<u8>) {
    match cold_channel(settings, event) {
        Err(hot) => out.extend_from_slice(hot),
        Ok(number) => {
            out.extend_from_slice(b"channel-");
            decimal(number, out);
        }
    }
}

/// A hot channel has one url, and so has each of the others; nine in ten of those say the channel's number, bits reversed.
fn url(settings: &Settings, event: u64, out: &mut Vec<u8>) {
    let channel = cold_channel(settings, event);
    let number = match channel {
        Ok(number) => number,
        Err(hot) => COLD_CHANNELS + u64::from(hot[0]),
    };
    // The url belongs to the channel, not to the event.
    let mut draws = settings.draws(number, Draw::Url);
    out.extend_from_slice(b"https://www.nexmark.com/");
    for _ in 0..3 {
        draws.letters(5, out);
        out.push(b'/');
    }
    out.extend_from_slice(b"item.htm?query=1");
    if channel.is_ok() && draws.below(10) > 0 {
        out.extend_from_slice(b"&channel_id=");
        decimal(u64::from((number as u32).reverse_bits() & 0x7FFF_FFFF), out);
    }
}

fn person_name(settings: &Settings, event: u64, out: &mut Vec<u8>) {
    let mut draws = settings.draws(event, Draw::Name);
    out.extend_from_slice(pick(&mut draws, &FIRST_NAMES));
    out.push(b' ');
    out.extend_from_slice(pick(&mut draws, &LAST_NAMES));
}

fn email(settings: &Settings, event: u64, out: &mut Vec<u8>) {
    let mut draws = settings.draws(event, Draw::Email);
    draws.letters(7, out);
    out.push(b'@');
    draws.letters(5, out);
    out.extend_from_slice(b".com");
}

fn card(settings: &Settings, event: u64, out: &mut Vec<u8>) {
    let mut draws = settings.draws(event, Draw::Card);
    for group in 0..4 {
        if group > 0 {
            out.push(b' ');
        }
        let digits = draws.below(10_000);
        out.extend([1_000, 100, 10, 1].map(|unit| b'0' + (digits / unit % 10) as u8));
    }
}

/// Letters that bring the row to the table's average size, within a fifth of what is missing.
fn extra(settings: &Settings, kind: Kind, event: u64, out: &mut Vec<u8>) {
    // What the other columns take on average; numbers and times take eight bytes.
    let others = match kind {
        Kind::Person => 8 + 13 + 17 + 19 + 8 + 2 + 8,
        Kind::Auction => 8 + 11 + 51 + 6 * 8,
        Kind::Bid => 4 * 8,
    };
    let mut draws = settings.draws(event, Draw::Extra);
    let missing = average_bytes(kind) - others;
    let fifth = missing / 5;
    let length = missing - fifth + draws.below(2 * fifth);
    draws.letters(length as usize, out);
}

fn decimal(number: u64, out: &mut Vec<u8>) {
    let mut unit = 1;
    while number / unit >= 10 {
        unit *= 10;
    }
    while unit > 0 {
        out.push(b'0' + (number / unit % 10) as u8);
        unit /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::AsArray;
    use arrow::compute::concat;
    use proptest::prelude::*;

    const KINDS: [Kind; 3] = [Kind::Person, Kind::Auction, Kind::Bid];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Any cut of the rows gives the same values.
        #[test]
        fn seeking_gives_what_reading_from_the_start_gives(seed: u64, first in 0u64..1_000_000, cut in 0u64..50) {
            let settings = Settings { seed, out_of_order_us: 1_000_000, ..Settings::default() };
            for kind in KINDS {
                for field in schema(kind).fields() {
                    let make = |rows| column(&settings, kind, field.name(), rows).unwrap();
                    let whole = make(first..first + 50);
                    let parts = [make(first..first + cut), make(first + cut..first + 50)];
                    prop_assert_eq!(&concat(&[&parts[0], &parts[1]]).unwrap(), &whole);
                    prop_assert_eq!(whole.data_type(), field.data_type());
                }
            }
        }
    }

    #[test]
    fn rows_have_the_documented_average_size() {
        let settings = Settings::default();
        for (kind, columns) in [(Kind::Person, 2), (Kind::Auction, 6), (Kind::Bid, 4)] {
            let text = |name: &str| column(&settings, kind, name, 0..10_000).unwrap().as_string::<i32>().value_data().len() as u64;
            let schema = schema(kind);
            // Of bids the generator counts numbers, time and padding, not channel and url.
            let counted = schema.fields().iter().filter(|field| field.data_type() == &DataType::Utf8);
            let counted = counted.filter(|field| kind != Kind::Bid || field.name() == "extra");
            let average = counted.map(|field| text(field.name())).sum::<u64>() / 10_000 + 8 * columns;
            assert!(average.abs_diff(average_bytes(kind)) <= average_bytes(kind) / 20, "{kind:?}: {average}");
        }
    }

    #[test]
    fn nine_in_ten_cold_urls_say_their_channel() {
        let settings = Settings::default();
        let channels = column(&settings, Kind::Bid, "channel", 0..20_000).unwrap();
        let urls = column(&settings, Kind::Bid, "url", 0..20_000).unwrap();
        let pairs = || channels.as_string::<i32>().iter().flatten().zip(urls.as_string::<i32>().iter().flatten());
        let cold = pairs().filter(|(channel, _)| channel.starts_with("channel-")).count();
        let said = pairs().filter(|(_, url)| url.contains("&channel_id=")).count();
        assert!((9_700..10_300).contains(&cold) && (8_600..9_400).contains(&said), "{cold} {said}");
        assert!(pairs().all(|(channel, url)| channel.starts_with("channel-") || !url.contains("channel_id")));
    }

    #[test]
    fn the_first_bid_of_seed_1_is_what_it_has_always_been() {
        let settings = Settings { seed: 1, ..Settings::default() };
        let shown: Vec<String> = schema(Kind::Bid)
            .fields()
            .iter()
            .map(|field| {
                arrow::util::display::array_value_to_string(&column(&settings, Kind::Bid, field.name(), 0..1).unwrap(), 0).unwrap()
            })
            .collect();
        assert_eq!(
            shown[..6].join("|"),
            "1000|1000|4908|Google|https://www.nexmark.com/bripo/refrx/sgigx/item.htm?query=1|2015-07-15T00:00:00.000400"
        );
    }
}
