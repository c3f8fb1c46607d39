//! Flags of asking commands may stand before the command, as after it: `wiremill --admin URL stream ls`.

use std::ffi::{OsStr, OsString};

use clap::{Args, Command};

use super::context::Context;

/// Words that a command has at the most: `stream ls`.
const WORDS_MAX: usize = 2;

/// `typed` (without the program) with the flags of [`Context`] that stand before or among the command's words put behind
/// everything else, where its parser looks for them.
pub fn arranged(typed: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let context = Context::augment_args(Command::new("context"));
    let takes_value = |arg: &OsStr| {
        let name = arg.to_str()?.strip_prefix("--")?;
        let (name, has_value) = name.split_once('=').map_or((name, false), |(name, _)| (name, true));
        let flag = context.get_arguments().find(|flag| flag.get_long() == Some(name))?;
        Some(flag.get_action().takes_values() && !has_value)
    };
    let (mut rest, mut moved) = (Vec::new(), Vec::new());
    let mut typed = typed.into_iter();
    while let Some(arg) = typed.next() {
        if let Some(takes_value) = takes_value(&arg) {
            moved.push(arg);
            moved.extend(typed.by_ref().take(usize::from(takes_value)));
            continue;
        }
        let is_word = !arg.as_encoded_bytes().starts_with(b"-");
        rest.push(arg);
        if !is_word || rest.len() == WORDS_MAX {
            break;
        }
    }
    rest.extend(typed);
    // What stands behind two dashes is no flag.
    let end = rest.iter().position(|arg| arg == "--").unwrap_or(rest.len());
    rest.splice(end..end, moved);
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(typed: &str, expected: &str) {
        let arranged = arranged(typed.split_whitespace().map(OsString::from));
        assert_eq!(arranged.join(OsStr::new(" ")), OsString::from(expected));
    }

    #[test]
    fn flags_of_asking_commands_go_behind_the_command() {
        check("--admin URL stream ls", "stream ls --admin URL");
        check("--json --as=a:b stream --namespace t/s ls", "stream ls --json --as=a:b --namespace t/s");
        check("--json version", "version --json");
        check("stream ls --admin URL", "stream ls --admin URL");
    }

    #[test]
    fn what_is_said_to_the_command_stays_where_it_is() {
        check("--admin URL stream publish orders -- --json", "stream publish orders --admin URL -- --json");
        check("stream publish orders --key --json", "stream publish orders --key --json");
        check("--data-dir --json serve", "--data-dir --json serve");
        check("--admin", "--admin");
        check("", "");
    }
}
