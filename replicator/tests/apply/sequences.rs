//! Random operations on a plain directory, and as records through the applier on a second one: equal after every sequence.

use proptest::prelude::*;
use telamon_replicator::apply::Outcome;

use crate::operation::{Operation, operations};
use crate::primary::Primary;
use crate::secondary::Secondary;

/// 100 cases; the environment's `PROPTEST_CASES` asks for more.
pub fn settings() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok();
    ProptestConfig {
        cases: cases.and_then(|cases| cases.parse().ok()).unwrap_or(100),
        max_shrink_iters: 4000,
        ..ProptestConfig::default()
    }
}

/// A pair that starts equal and live.
pub fn pair() -> (Primary, Secondary) {
    let (mut primary, mut secondary) = (Primary::new(), Secondary::new(&[]));
    let ours = primary.id(secondary.path());
    secondary.bind(&[(primary.root(), ours)]).unwrap();
    primary.touch_root();
    for entry in primary.log.drain(..) {
        secondary.log(&entry).unwrap();
    }
    (primary, secondary)
}

fn follow(primary: &mut Primary, secondary: &mut Secondary, operations: &[Operation]) {
    for operation in operations {
        primary.perform(operation);
        for entry in primary.log.drain(..) {
            let outcome = secondary.log(&entry);
            assert_eq!(
                outcome.unwrap(),
                Outcome::Applied,
                "{entry:?} of {operation:?}"
            );
        }
        secondary.commit();
    }
    assert_eq!(secondary.applier.progress(), secondary.commit());
    assert_eq!(secondary.commit().durable.0, secondary.lsn);
}

proptest! {
    #![proptest_config(settings())]

    #[test]
    fn records_make_equal_trees(operations in operations(160)) {
        let (mut primary, mut secondary) = pair();
        follow(&mut primary, &mut secondary, &operations);
        secondary.assert_equal(primary.path());
    }
}
