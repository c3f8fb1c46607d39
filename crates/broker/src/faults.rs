//! Faults that the simulator plants to prove that it would notice them. Compiled in only for the simulator (feature
//! `planted-faults`); without it nothing is ever planted and every check below is a constant.

/// A mistake that the broker can be told to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The settlements of a unit that publishes are answered and not made.
    SettlementDropped,
    /// A rejected record is appended to the dead letters and stays where it was.
    RejectedStays,
    /// A recorded lease is granted and not logged.
    LeaseNotLogged,
    /// Units that are all or nothing append what they can.
    UnitInParts,
    /// A stream that is full loses its second oldest record, and the oldest stays.
    WrongOneDropped,
    /// What a full stream deflects is stored nowhere.
    DeflectionLost,
    /// A publish leaves out the copies for its further targets.
    FollowerLost,
    /// Records expire a second before their time.
    ExpiredEarly,
    /// Records whose time is over stay, and are delivered.
    ExpiredStays,
    /// Records are delivered before the time that they name.
    DeliveredEarly,
    /// A principal may do everything, whatever its user may.
    PermissionSkipped,
    /// A cursor that is set back is not, after a restart.
    SeekNotLogged,
    /// A released delivery does not count.
    AttemptForgotten,
    /// A lease gives one record more than is allowed.
    AllowanceExceeded,
    /// Records of a format that nobody registered are passed over in silence.
    UnknownFormatSkipped,
}

/// Which fault is planted, if any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    #[cfg(feature = "planted-faults")]
    planted: Option<Fault>,
}

impl Faults {
    /// Exactly this one.
    #[cfg(feature = "planted-faults")]
    pub fn plant(fault: Fault) -> Self {
        Faults { planted: Some(fault) }
    }

    /// Whether `fault` is planted.
    #[cfg(feature = "planted-faults")]
    pub(crate) fn has(self, fault: Fault) -> bool {
        self.planted == Some(fault)
    }

    /// Whether `fault` is planted: never, in this build.
    #[cfg(not(feature = "planted-faults"))]
    pub(crate) fn has(self, _fault: Fault) -> bool {
        false
    }
}
