//! Faults that the simulator plants to prove that it would notice them. Compiled in only for the simulator (feature
//! `planted-faults`); without it nothing is ever planted and every check below is a constant.

/// A mistake the engine can be told to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Units count as durable before they are written.
    AckEarly,
    /// Recovery takes damage in the middle of the log for a torn tail and cuts there.
    CutMidLog,
    /// Only the first entry of a unit of several is written.
    DropSecondEntry,
    /// A released WAL file is overwritten although a reader has it pinned.
    RecyclePinned,
    /// A checkpoint holds state that is not durable yet.
    CheckpointUnsynced,
    /// After a crash offsets are given out again that readers have seen.
    ReuseOffset,
    /// A repair steps over damage and does not say so.
    RepairSilent,
    /// After a repair offsets are given out again that lost records had.
    RepairReusesOffsets,
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
