//! Behaviour of queues as their clients see it.

use super::testing::{Rig, asked, grouped, key, message, system};
use crate::shapes::{ReceiveMessageInput, SendMessageInput};

mod dead_letters;
mod fifo;
mod queues;
mod standard;
