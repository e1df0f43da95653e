//! Which bundles this board takes: the class of board that they were made for, and their number.
//!
//! Pure. A person may insist; then both are passed over.

use n2n_protocol::{BundleManifest, Shipment};

/// Check a shipment against this board's class and the highest number that it has seen.
///
/// # Errors
/// Expected and got, in words.
pub(super) fn admit(shipment: &Shipment, class: &str, highest_number: u64) -> Result<(), String> {
    let Shipment { bundle: BundleManifest { name, artifact, .. }, force } = shipment;
    if *force {
        return Ok(());
    }
    if !artifact.target.is_empty() && artifact.target != class {
        return Err(format!(
            "student `{name}` was made for boards of class `{}`, this board is of class `{class}`; \
             --force ships it all the same",
            artifact.target
        ));
    }
    if artifact.number < highest_number {
        return Err(format!(
            "student `{name}` has number {}, and this board has seen {highest_number} already: it is an older \
             bundle, or was bundled by a clock that is slow; --force ships it all the same",
            artifact.number
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::student::tests::student;
    use super::*;

    fn shipment(target: &str, number: u64, force: bool) -> Shipment {
        let mut bundle = student().bundle;
        bundle.artifact.target = target.into();
        bundle.artifact.number = number;
        Shipment { bundle, force }
    }

    #[test]
    fn another_class_or_a_lower_number_is_refused_unless_somebody_insists() {
        assert_eq!(admit(&shipment("pi", 5, false), "pi", 5), Ok(()));
        assert_eq!(admit(&shipment("", 6, false), "pi", 5), Ok(()), "made for any board");
        let other = admit(&shipment("jetson", 5, false), "pi", 5).unwrap_err();
        assert!(other.contains("`jetson`") && other.contains("`pi`") && other.contains("--force"), "{other}");
        let older = admit(&shipment("pi", 4, false), "pi", 5).unwrap_err();
        assert!(older.contains("number 4") && older.contains("seen 5"), "{older}");
        assert_eq!(admit(&shipment("jetson", 4, true), "pi", 5), Ok(()));
    }
}
