//! Finds where numbers go on behind their whole part: each point, `e` or `E` that follows a digit.
//!
//! Every byte of JSON input passes through here, and nearly all are letters, many of them an `e`. So a block of bytes is compared at
//! once, without a branch, in a loop that compilers turn into vector instructions.

/// Bytes that are compared at once.
const BLOCK: usize = 64;
/// Bytes of a word.
const WORD: usize = 8;

/// Calls `take` with the place of each mark, in order, until it fails.
pub(super) fn try_for_each<E>(text: &[u8], mut take: impl FnMut(usize) -> Result<(), E>) -> Result<(), E> {
    let (_, followers) = text.split_at(text.len().min(1));
    let (blocks, rest) = followers.as_chunks::<BLOCK>();
    let (before_blocks, before_rest) = text[..followers.len()].as_chunks::<BLOCK>();
    for (index, (before, block)) in before_blocks.iter().zip(blocks).enumerate() {
        let marks = marks(before, block);
        for (word_index, word) in marks.as_chunks::<WORD>().0.iter().enumerate() {
            let mut word = u64::from_le_bytes(*word);
            while word != 0 {
                take(1 + index * BLOCK + word_index * WORD + word.trailing_zeros() as usize / WORD)?;
                word &= word - 1;
            }
        }
    }
    let done = 1 + blocks.len() * BLOCK;
    let rest = before_rest.iter().zip(rest).enumerate();
    rest.filter(|(_, (before, byte))| is_mark(**before, **byte)).try_for_each(|(index, _)| take(done + index))
}

/// For each byte 1 if it is a mark, else 0.
#[inline]
fn marks(before: &[u8; BLOCK], block: &[u8; BLOCK]) -> [u8; BLOCK] {
    let mut marks = [0; BLOCK];
    for ((mark, before), byte) in marks.iter_mut().zip(before).zip(block) {
        *mark = u8::from(is_mark(*before, *byte));
    }
    marks
}

/// No short circuits: a branch would cost more than the comparisons.
#[inline]
fn is_mark(before: u8, byte: u8) -> bool {
    before.is_ascii_digit() & ((byte == b'.') | ((byte | 0x20) == b'e'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::convert::Infallible;

    proptest! {
        #[test]
        fn every_point_and_exponent_behind_a_digit_is_found_wherever_it_stands(text in "[0-9.eE\"x+é]{0,300}") {
            let text = text.as_bytes();
            let mut found = Vec::new();
            let Ok(()) = try_for_each(text, |at| {
                found.push(at);
                Ok::<_, Infallible>(())
            });
            let is_wanted = |&at: &usize| text[at - 1].is_ascii_digit() && matches!(text[at], b'.' | b'e' | b'E');
            let wanted: Vec<usize> = (1..text.len()).filter(is_wanted).collect();
            prop_assert_eq!(found, wanted);
        }
    }

    #[test]
    fn the_search_ends_where_its_taker_fails() {
        let mut calls = 0;
        let ended = try_for_each(b"1.1e1", |at| {
            calls += 1;
            Err(at)
        });
        assert_eq!((ended, calls), (Err(1), 1));
    }
}
