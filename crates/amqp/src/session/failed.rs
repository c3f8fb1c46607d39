//! What goes wrong beside what a method asks for.

use crate::{
    channel::Failed,
    codec::Fault,
    error::{Code, Exception},
};

/// Octets of arguments that do not read which an error text shows: more than the text has room for.
const SHOWN_LEN: usize = 128;

/// A method that does not read.
pub(super) fn unread(fault: &Fault, payload: &[u8]) -> Failed {
    let number =
        |at: usize| payload.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |two| u16::from_be_bytes(*two));
    let exception = match fault {
        Fault::Unknown(class, method) => {
            Exception::new(Code::CommandInvalid, format!("unknown method {{{class},{method}}}"))
        }
        Fault::Malformed(wire::Error::Utf8) => {
            Exception::new(Code::FrameError, "Malformed UTF-8 in shortstr")
        }
        Fault::Malformed(_) => {
            let arguments = payload.get(4..).unwrap_or_default();
            let shown: Vec<_> = arguments.iter().take(SHOWN_LEN).map(u8::to_string).collect();
            Exception::new(Code::FrameError, format!("cannot decode <<{}>>", shown.join(",")))
        }
    };
    Failed { exception, class: number(0), method: number(2) }
}

/// What is wrong with a frame, not with what a method asks for.
pub(super) fn of_frame(exception: Exception) -> Failed {
    Failed { exception: exception.of_connection(), class: 0, method: 0 }
}

pub(super) fn internal(error: model::Error) -> Failed {
    Failed { exception: Exception::from(error).of_connection(), class: 0, method: 0 }
}
