//! Positions in the tables of one snapshot. They mean nothing in another snapshot.

macro_rules! index {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u32);

        impl $name {
            /// The position as a slice index.
            pub const fn get(self) -> usize {
                self.0 as usize
            }
        }
    };
}

index!(
    /// Position of a route in [`crate::snapshot::Snapshot`].
    RouteIndex
);
index!(
    /// Position of an issuer in [`crate::snapshot::Snapshot`].
    IssuerIndex
);
index!(
    /// Position of an upstream in [`crate::snapshot::Snapshot`].
    UpstreamIndex
);
