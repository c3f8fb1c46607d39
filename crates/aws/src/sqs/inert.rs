//! Attributes that are taken, kept and shown, and have no effect here.

/// An attribute without an effect, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InertSetting {
    /// Its name.
    pub name: &'static str,
    /// Why nothing follows from it.
    pub reason: &'static str,
}

const INERT: [InertSetting; 6] = [
    InertSetting {
        name: "Policy",
        reason: "who may do what is decided by the broker's users and their permissions; resource policies are kept and shown",
    },
    InertSetting {
        name: "KmsMasterKeyId",
        reason: "data at rest is encrypted by the disk or volume below, not per queue",
    },
    InertSetting { name: "KmsDataKeyReusePeriodSeconds", reason: "there are no data keys" },
    InertSetting {
        name: "SqsManagedSseEnabled",
        reason: "data at rest is encrypted by the disk or volume below, not per queue",
    },
    InertSetting {
        name: "FifoThroughputLimit",
        reason: "there is no limit to raise: every FIFO queue takes as much as the disk does",
    },
    InertSetting {
        name: "DeduplicationScope of an existing queue",
        reason: "as in AWS, the scope that holds is the one that the queue was made with",
    },
];

/// Every attribute of queues that is inert.
pub fn inert_settings() -> &'static [InertSetting] {
    &INERT
}
