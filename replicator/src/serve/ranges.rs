//! Byte ranges of one file that changed and are still to be read.
//!
//! Bounded: when there are too many, neighbours are joined across the gaps between them. What is joined was not all written, nor is all
//! that a comparison marks, so a set that is not exact may cover holes.

use std::collections::BTreeMap;
use std::ops::Range;

/// Smaller than any page or block that matters here.
const PAGE: u64 = 4096;

/// Disjoint, non-adjacent, non-empty ranges in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges {
    /// Start to end.
    ends: BTreeMap<u64, u64>,
    /// Ranges lie on multiples of this, once there were too many; 0 before.
    grain: u64,
    /// Something in the set was not written, only marked.
    is_marked: bool,
}

impl Ranges {
    /// More than this are joined. About 64 KiB of memory a file at worst.
    pub const COUNT_MAX: usize = 4096;
    const GRAIN_FIRST: u64 = 64 << 10;

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Whether every byte in the set was written, none only joined in or marked.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.grain == 0 && !self.is_marked
    }

    pub fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.ends.iter().map(|(&start, &end)| start..end)
    }

    /// Adds a range of which not every byte needs to have been written.
    pub fn mark(&mut self, range: Range<u64>) {
        self.is_marked |= !range.is_empty();
        self.add(range);
    }

    /// Adds a range that was written; an empty one changes nothing.
    pub fn add(&mut self, range: Range<u64>) {
        let range = self.aligned(range);
        if range.is_empty() {
            return;
        }
        self.join(range);
        while self.ends.len() > Self::COUNT_MAX {
            self.coarsen();
        }
    }

    /// Joins with whatever it touches.
    fn join(&mut self, range: Range<u64>) {
        let (mut start, mut end) = (range.start, range.end);
        while let Some((&before, &before_end)) = self.ends.range(..=end).next_back() {
            if before_end < start {
                break;
            }
            start = start.min(before);
            end = end.max(before_end);
            self.ends.remove(&before);
        }
        self.ends.insert(start, end);
    }

    fn coarsen(&mut self) {
        self.grain = (self.grain * 4).max(Self::GRAIN_FIRST);
        for (start, end) in std::mem::take(&mut self.ends) {
            let range = self.aligned(start..end);
            self.join(range);
        }
    }

    fn aligned(&self, range: Range<u64>) -> Range<u64> {
        if self.grain == 0 || range.is_empty() {
            return range;
        }
        let start = range.start - range.start % self.grain;
        start
            ..range
                .end
                .checked_next_multiple_of(self.grain)
                .unwrap_or(u64::MAX)
    }

    /// Forgets a range.
    pub fn remove(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        while let Some((&start, &end)) = self.ends.range(..range.end).next_back() {
            if end <= range.start {
                break;
            }
            self.ends.remove(&start);
            if end > range.end {
                self.ends.insert(range.end, end);
            }
            if start < range.start {
                self.ends.insert(start, range.start);
            }
        }
        self.reset_if_empty();
    }

    /// Forgets the pages that lie wholly in a range which was just zeroed or cut off. A page of which a part remains is kept, and so is
    /// what is known of it: written or not, a block is still allocated there.
    pub fn remove_pages(&mut self, range: Range<u64>) {
        let start = range.start.next_multiple_of(PAGE);
        let kept = range.start - range.start % PAGE..range.start;
        if self.overlaps(&(range.start..start.min(range.end))) {
            self.add(kept);
        }
        let end = if range.end == u64::MAX {
            u64::MAX
        } else {
            range.end - range.end % PAGE
        };
        self.remove(start..end.max(start));
    }

    fn overlaps(&self, range: &Range<u64>) -> bool {
        !range.is_empty()
            && self
                .ends
                .range(..range.end)
                .next_back()
                .is_some_and(|(_, &end)| end > range.start)
    }

    /// Takes ranges from the front, `length_max` bytes of them at most (the last one is cut).
    #[must_use]
    pub fn take(&mut self, length_max: u64) -> Ranges {
        let mut taken = Ranges {
            ends: BTreeMap::new(),
            grain: self.grain,
            is_marked: self.is_marked,
        };
        let mut left = length_max;
        while left > 0 {
            let Some((start, end)) = self.ends.pop_first() else {
                break;
            };
            let cut = end.min(start.saturating_add(left));
            left -= cut - start;
            taken.ends.insert(start, cut);
            if cut < end {
                self.ends.insert(cut, end);
            }
        }
        self.reset_if_empty();
        taken
    }

    fn reset_if_empty(&mut self) {
        if self.ends.is_empty() {
            *self = Ranges::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn bytes(ranges: &Ranges) -> BTreeSet<u64> {
        ranges.iter().flatten().collect()
    }

    proptest! {
        #[test]
        fn covers_exactly_what_was_added_and_not_removed(
            steps in proptest::collection::vec((any::<bool>(), 0_u64..200, 0_u64..40), 1..60)
        ) {
            let mut ranges = Ranges::default();
            let mut model = BTreeSet::new();
            for (adds, start, length) in steps {
                let range = start..start + length;
                if adds {
                    model.extend(range.clone());
                    ranges.add(range);
                } else {
                    model.retain(|byte| !range.contains(byte));
                    ranges.remove(range);
                }
                prop_assert_eq!(bytes(&ranges), model.clone());
                let list: Vec<_> = ranges.iter().collect();
                prop_assert!(list.windows(2).all(|pair| pair[0].end < pair[1].start));
            }
        }

        #[test]
        fn taking_splits_without_loss(
            spans in proptest::collection::vec((0_u64..200, 1_u64..40), 1..20), length_max in 1_u64..300
        ) {
            let mut ranges = Ranges::default();
            for &(start, length) in &spans {
                ranges.add(start..start + length);
            }
            let whole = bytes(&ranges);
            let taken = ranges.take(length_max);
            prop_assert_eq!(bytes(&taken).len() as u64, length_max.min(whole.len() as u64));
            prop_assert!(bytes(&taken).is_disjoint(&bytes(&ranges)));
            prop_assert_eq!(&bytes(&taken) | &bytes(&ranges), whole);
        }
    }

    #[test]
    fn too_many_are_joined_and_nothing_is_lost() {
        let mut ranges = Ranges::default();
        let count = 3 * Ranges::COUNT_MAX as u64;
        for index in 0..count {
            let start = (index * 7919) % count * 8192;
            ranges.add(start..start + 4096);
        }
        assert!(ranges.iter().count() <= Ranges::COUNT_MAX);
        assert!(!ranges.is_exact());
        for index in 0..count {
            let start = index * 8192;
            assert!(
                ranges
                    .iter()
                    .any(|range| range.start <= start && start + 4096 <= range.end)
            );
        }
        assert!(!ranges.take(u64::MAX).is_empty());
        assert!(ranges.is_exact(), "an empty set is exact again");
    }

    #[test]
    fn what_is_marked_makes_a_set_inexact_until_all_of_it_is_taken() {
        let mut ranges = Ranges::default();
        ranges.add(0..100);
        ranges.mark(7..7);
        assert!(ranges.is_exact());
        ranges.mark(200..300);
        assert!(!ranges.take(50).is_exact() && !ranges.is_exact());
        assert!(!ranges.take(u64::MAX).is_exact() && ranges.is_exact());
    }

    #[test]
    fn a_page_that_is_cut_in_two_stays() {
        let mut ranges = Ranges::default();
        ranges.add(3 * PAGE + 100..3 * PAGE + 200);
        ranges.add(4 * PAGE..9 * PAGE);
        ranges.remove_pages(3 * PAGE + 50..u64::MAX);
        assert!(ranges.overlaps(&(3 * PAGE..3 * PAGE + 50)), "{ranges:?}");
        assert!(!ranges.overlaps(&(4 * PAGE..u64::MAX)), "{ranges:?}");
    }

    #[test]
    fn the_end_of_the_number_line_is_no_trap() {
        let mut ranges = Ranges::default();
        ranges.add(u64::MAX - 1..u64::MAX);
        ranges.add(0..1);
        ranges.grain = Ranges::GRAIN_FIRST;
        ranges.add(u64::MAX - 10..u64::MAX);
        assert_eq!(
            ranges.iter().last(),
            Some(u64::MAX - u64::MAX % Ranges::GRAIN_FIRST..u64::MAX)
        );
    }
}
