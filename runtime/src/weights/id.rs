//! The identity of packed weights.

/// The identity of weights: a number of the caller's, or a hash of their content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WeightsId(Id);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Id {
    /// The caller's number.
    Given(u64),
    /// The hash of their values.
    Content(u128),
}

impl WeightsId {
    /// The hash; `None` of a caller's number, which may stand for others in another process.
    pub(crate) fn hash(self) -> Option<u128> {
        match self.0 {
            Id::Given(_) => None,
            Id::Content(hash) => Some(hash),
        }
    }

    /// By a hash of something that determines their values, such as what they are computed from.
    pub fn of_hash(hash: u128) -> Self {
        WeightsId(Id::Content(hash))
    }
}

impl From<u64> for WeightsId {
    /// A number that the caller gives to no others as long as anyone uses these.
    fn from(id: u64) -> Self {
        WeightsId(Id::Given(id))
    }
}
