//! The Security Token Service: the one operation that clients ask to see whether they are let in.

use crate::{
    AwsError, Context,
    codec::encode::{Encode, element},
};

/// Of answers.
pub(crate) const XMLNS: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// Appends the members of the result of `action`.
pub(crate) fn call(ctx: &Context, action: &str, out: &mut Vec<u8>) -> Result<(), AwsError> {
    if action != "GetCallerIdentity" {
        return Err(AwsError::unknown_action(action));
    }
    let caller = ctx.caller();
    let account = caller.account.text();
    let (arn, user_id) = match &caller.principal.name {
        Some(name) => (format!("arn:aws:iam::{account}:user/{name}"), caller.access_key_id.as_deref()),
        None => (format!("arn:aws:iam::{account}:root"), None),
    };
    element("GetCallerIdentityResult", out, |out| {
        arn.xml("Arn", out);
        user_id.unwrap_or(account).xml("UserId", out);
        account.xml("Account", out);
    });
    Ok(())
}
