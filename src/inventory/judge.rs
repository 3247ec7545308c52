//! When to believe that a key is gone, and that the list is the right organization's.

/// The answer of a look-up of one missing key by its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LookUp {
    /// 200 with the same id.
    Present,
    /// 404 in the API's error envelope, and a key that the scan did list answered 200.
    Gone,
    /// All else.
    Unknown,
}
