//! Cutting a source's splits into lanes: contiguous runs of splits that one task works off in order.
//!
//! Where the rows go to sinks alone, a lane becomes an output file, so there are few, of a good size. Where rows change hands, lanes
//! are small, because they are merged in order and those that are ahead must wait in memory. Neither depends on the number of
//! threads.

use waterclock_core::source::Split;

/// A lane of less work than this is not worth a file of its own, in decoded bytes.
const LEAST_WORK: usize = 8 << 20;
/// The same where rows change hands: there a lane makes no file, and is worth a task.
const LEAST_EXCHANGED_WORK: usize = 1 << 20;
/// The most lanes of one source in one batch that lead to sinks alone.
const MOST_LANES: usize = 32;

/// The splits of each lane, in order.
pub(super) fn cut(splits: Vec<Box<dyn Split>>, exchanged: bool) -> Vec<Vec<Box<dyn Split>>> {
    let work: Vec<usize> = splits.iter().map(|split| split.work_bytes()).collect();
    let mut lanes: Vec<Vec<Box<dyn Split>>> = Vec::new();
    let mut lane_of_last = None;
    for (split, lane) in splits.into_iter().zip(assign(&work, exchanged)) {
        if lane_of_last != Some(lane) {
            lanes.push(Vec::new());
            lane_of_last = Some(lane);
        }
        if let Some(last) = lanes.last_mut() {
            last.push(split);
        }
    }
    lanes
}

/// The lane of each split: by where the middle of its work lies in the whole.
fn assign(work: &[usize], exchanged: bool) -> Vec<usize> {
    let total: usize = work.iter().sum();
    let (least, most) = if exchanged { (LEAST_EXCHANGED_WORK, usize::MAX) } else { (LEAST_WORK, MOST_LANES) };
    let lanes = (total / least).clamp(1, most);
    let mut before = 0;
    let mut place = |work: &usize| {
        let middle = before + work / 2;
        before += work;
        (middle as u128 * lanes as u128 / total.max(1) as u128) as usize
    };
    work.iter().map(&mut place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_work_is_one_lane() {
        assert_eq!(assign(&[1, 2, 3], false), [0, 0, 0]);
        assert_eq!(assign(&[], false), [0usize; 0]);
        assert_eq!(assign(&[0, 0], true), [0, 0]);
    }

    #[test]
    fn lanes_are_contiguous_balanced_and_few() {
        let work = vec![1 << 20; 1000];
        let lanes = assign(&work, false);
        assert!(lanes.is_sorted() && lanes[0] == 0 && lanes[999] == MOST_LANES - 1);
        let sizes: Vec<usize> = (0..MOST_LANES).map(|lane| lanes.iter().filter(|&&l| l == lane).count()).collect();
        assert!(sizes.iter().all(|&size| (31..=32).contains(&size)), "{sizes:?}");
        assert_eq!(assign(&work, true).last(), Some(&999));
    }

    #[test]
    fn a_split_that_outweighs_the_rest_is_alone() {
        assert_eq!(assign(&[1 << 30, 1, 1], false).windows(2).filter(|pair| pair[0] != pair[1]).count(), 1);
    }
}
