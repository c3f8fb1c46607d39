//! The ten names, known from the first commit so that a settings file outlives the growth of the program.

/// A listener's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)] // The names say it.
pub enum ListenerName {
    Kafka,
    Amqp,
    Nats,
    Aws,
    Redis,
    Pulsar,
    Registry,
    Admin,
    RabbitmqAdmin,
    PulsarAdmin,
}

impl ListenerName {
    /// All of them, in the order of banner and documentation.
    pub const ALL: [ListenerName; 10] = [
        ListenerName::Kafka,
        ListenerName::Amqp,
        ListenerName::Nats,
        ListenerName::Aws,
        ListenerName::Redis,
        ListenerName::Pulsar,
        ListenerName::Registry,
        ListenerName::Admin,
        ListenerName::RabbitmqAdmin,
        ListenerName::PulsarAdmin,
    ];

    /// As it is typed and shown.
    pub fn text(self) -> &'static str {
        match self {
            ListenerName::Kafka => "kafka",
            ListenerName::Amqp => "amqp",
            ListenerName::Nats => "nats",
            ListenerName::Aws => "aws",
            ListenerName::Redis => "redis",
            ListenerName::Pulsar => "pulsar",
            ListenerName::Registry => "registry",
            ListenerName::Admin => "admin",
            ListenerName::RabbitmqAdmin => "rabbitmq-admin",
            ListenerName::PulsarAdmin => "pulsar-admin",
        }
    }

    /// The listener of that name.
    pub fn parse(text: &str) -> Option<ListenerName> {
        ListenerName::ALL.into_iter().find(|name| name.text() == text)
    }

    /// The port of the original.
    pub fn default_port(self) -> u16 {
        match self {
            ListenerName::Kafka => 9092,
            ListenerName::Amqp => 5672,
            ListenerName::Nats => 4222,
            ListenerName::Aws => 4566,
            ListenerName::Redis => 6379,
            ListenerName::Pulsar => 6650,
            ListenerName::Registry => 8081,
            ListenerName::Admin => 8222,
            ListenerName::RabbitmqAdmin => 15672,
            ListenerName::PulsarAdmin => 8080,
        }
    }

    /// Whether its dialect is there. The others are accepted, mentioned once, and not opened.
    pub fn is_built(self) -> bool {
        use ListenerName::{Admin, Amqp, Aws, Kafka, Nats};
        matches!(self, Admin | Kafka | Amqp | Nats | Aws)
    }

    /// A command that shows the listener at work, for the banner.
    pub fn line_to_paste(self, address: &str, tls: bool) -> String {
        match self {
            ListenerName::Kafka if tls => format!("kcat -b {address} -X security.protocol=ssl -L"),
            ListenerName::Kafka => {
                format!("kafka-topics.sh --bootstrap-server {address} --create --topic hello")
            }
            ListenerName::Amqp => {
                let scheme = if tls { "amqps" } else { "amqp" };
                format!("amqp-publish --url={scheme}://guest:guest@{address} -r hello -b world")
            }
            ListenerName::Nats => format!("nats --server {address} sub '>'"),
            ListenerName::Admin if tls => format!("curl -k https://{address}/healthz"),
            ListenerName::Admin => format!("curl http://{address}/healthz"),
            ListenerName::Aws => {
                let scheme = if tls { "https" } else { "http" };
                format!("aws --endpoint-url {scheme}://{address} sqs list-queues")
            }
            // Those that are not built have no line; each dialect brings its own.
            _ => String::new(),
        }
    }
}
