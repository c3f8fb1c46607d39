//! Every API this codec knows, with the versions it can read and the versions that are shown to clients.

/// An API of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Api {
    /// Which one.
    pub key: ApiKey,
    /// Its name in the protocol's documents.
    pub name: &'static str,
    /// Lowest version that is served.
    pub min: i16,
    /// Highest version that is served.
    pub max: i16,
    /// Lowest version that ApiVersions shows; below `min` for Produce alone (KAFKA-18659: older clients look for fixed
    /// points of the range and give up compression without them).
    pub shown_min: i16,
    /// First version with compact lengths and tagged fields (KIP-482).
    pub flexible_from: Option<i16>,
}

impl Api {
    /// The API of a request header, if it is known.
    pub fn by_number(number: i16) -> Option<&'static Api> {
        ApiKey::from_number(number).map(ApiKey::api)
    }

    /// Whether this version is served.
    pub fn serves(&self, version: i16) -> bool {
        (self.min..=self.max).contains(&version)
    }

    /// How this API's messages are written in version `number`.
    pub fn version(&self, number: i16) -> super::Version {
        super::Version { number, flexible: self.flexible_from.is_some_and(|from| number >= from) }
    }
}

/// Declares the keys and the table that is searched for them.
macro_rules! apis {
    ($($name:ident = $key:literal, $min:literal..=$max:literal, flexible $flexible:expr $(, shown from $shown:literal)?;)*) => {
        /// The number by which a request says what it wants.
        #[allow(missing_docs, reason = "named as in the protocol's documents")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum ApiKey {
            $($name,)*
        }

        impl ApiKey {
            /// The key on the wire.
            pub const fn number(self) -> i16 {
                match self {
                    $(ApiKey::$name => $key,)*
                }
            }

            /// The key of a request header, if it is known.
            pub const fn from_number(number: i16) -> Option<Self> {
                match number {
                    $($key => Some(ApiKey::$name),)*
                    _ => None,
                }
            }

            /// This API's row of the table.
            pub const fn api(self) -> &'static Api {
                match self {
                    $(ApiKey::$name => const { &Api {
                        key: ApiKey::$name,
                        name: stringify!($name),
                        min: $min,
                        max: $max,
                        shown_min: shown!($min $(, $shown)?),
                        flexible_from: $flexible,
                    } },)*
                }
            }
        }

        /// All APIs in the order of their keys.
        pub static TABLE: &[&Api] = &[$(ApiKey::$name.api(),)*];
    };
}

/// The lowest version shown: the lowest served unless said otherwise.
macro_rules! shown {
    ($min:literal) => {
        $min
    };
    ($min:literal, $shown:literal) => {
        $shown
    };
}

// Kafka 4.2's ranges.
apis! {
    Produce = 0, 3..=13, flexible Some(9), shown from 0;
    Fetch = 1, 4..=18, flexible Some(12);
    ListOffsets = 2, 1..=11, flexible Some(6);
    Metadata = 3, 0..=13, flexible Some(9);
    OffsetCommit = 8, 2..=10, flexible Some(8);
    OffsetFetch = 9, 1..=10, flexible Some(6);
    FindCoordinator = 10, 0..=6, flexible Some(3);
    JoinGroup = 11, 0..=9, flexible Some(6);
    Heartbeat = 12, 0..=4, flexible Some(4);
    LeaveGroup = 13, 0..=5, flexible Some(4);
    SyncGroup = 14, 0..=5, flexible Some(4);
    DescribeGroups = 15, 0..=6, flexible Some(5);
    ListGroups = 16, 0..=5, flexible Some(3);
    SaslHandshake = 17, 0..=1, flexible None;
    ApiVersions = 18, 0..=4, flexible Some(3);
    CreateTopics = 19, 2..=7, flexible Some(5);
    DeleteTopics = 20, 1..=6, flexible Some(4);
    DeleteRecords = 21, 0..=2, flexible Some(2);
    InitProducerId = 22, 0..=5, flexible Some(2);
    OffsetForLeaderEpoch = 23, 2..=4, flexible Some(4);
    DescribeConfigs = 32, 1..=4, flexible Some(4);
    AlterConfigs = 33, 0..=2, flexible Some(2);
    DescribeLogDirs = 35, 1..=4, flexible Some(2);
    SaslAuthenticate = 36, 0..=2, flexible Some(2);
    CreatePartitions = 37, 0..=3, flexible Some(2);
    DeleteGroups = 42, 0..=2, flexible Some(2);
    ElectLeaders = 43, 0..=2, flexible Some(2);
    IncrementalAlterConfigs = 44, 0..=1, flexible Some(1);
    AlterPartitionReassignments = 45, 0..=1, flexible Some(0);
    ListPartitionReassignments = 46, 0..=0, flexible Some(0);
    OffsetDelete = 47, 0..=0, flexible None;
    DescribeUserScramCredentials = 50, 0..=0, flexible Some(0);
    AlterUserScramCredentials = 51, 0..=0, flexible Some(0);
    DescribeQuorum = 55, 0..=2, flexible Some(0);
    DescribeCluster = 60, 0..=2, flexible Some(0);
    DescribeProducers = 61, 0..=0, flexible Some(0);
    ListConfigResources = 74, 0..=1, flexible Some(0);
    DescribeTopicPartitions = 75, 0..=0, flexible Some(0);
}
