//! The meters in force, shared by what runs.

use std::sync::{Arc, PoisonError, RwLock, Weak};

use super::Meters;

/// The meters in force. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct LiveMeters(Arc<RwLock<Arc<Meters>>>);

impl LiveMeters {
    /// With these, until others are put in their place.
    pub fn new(meters: impl Into<Arc<Meters>>) -> Self {
        LiveMeters(Arc::new(RwLock::new(meters.into())))
    }

    /// Those of this moment. Who counts by them holds them until what was counted is stored: see
    /// [`LiveMeters::replace`].
    pub fn now(&self) -> Arc<Meters> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts others in their place. Once nobody holds the former ones any more, everything that was counted by them is
    /// stored.
    pub fn replace(&self, meters: Meters) -> Weak<Meters> {
        let mut held = self.0.write().unwrap_or_else(PoisonError::into_inner);
        Arc::downgrade(&std::mem::replace(&mut *held, Arc::new(meters)))
    }
}

impl From<Meters> for LiveMeters {
    fn from(meters: Meters) -> Self {
        LiveMeters::new(meters)
    }
}
