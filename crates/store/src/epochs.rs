//! The epoch that no log of a directory is below: raised whenever a torn tail was cut, and kept as the name of an empty blob,
//! so that it costs one small write however many logs there are. Clients are shown epochs, and take one that goes back for
//! an old answer.

use model::{OwnerEpoch, Result};

use crate::{
    blobs::{Blobs, numbers},
    fsio::is_full,
};

const PREFIX: &str = "epoch-";

fn name(epoch: u64) -> String {
    format!("{PREFIX}{epoch:016}")
}

/// The epoch that logs have at least.
pub(crate) fn floor(blobs: &dyn Blobs) -> Result<OwnerEpoch> {
    let last = numbers(blobs, PREFIX)?.last().copied().unwrap_or(0);
    Ok(OwnerEpoch(u32::try_from(last).unwrap_or(u32::MAX)))
}

/// Durably raises it from `floor` above `epoch`, the highest of any log. Where the disk is full it stays: nothing of what was
/// cut was ever shown, and a start is worth more than telling it apart.
pub(crate) fn raise(blobs: &dyn Blobs, floor: OwnerEpoch, epoch: OwnerEpoch) -> Result<OwnerEpoch> {
    let raised = OwnerEpoch(floor.max(epoch).0.saturating_add(1));
    match blobs.put(&name(raised.0.into()), &mut std::iter::empty()) {
        Ok(_) => {}
        Err(error) if is_full(&error) => {
            tracing::warn!(%error, "the disk is full; logs go on in the epoch in which a torn tail was cut");
            // Its name may be seen already, and gone after a loss of power.
            return blobs.remove(&name(raised.0.into())).map(|()| floor);
        }
        Err(error) => return Err(error),
    }
    for old in numbers(blobs, PREFIX)?.into_iter().filter(|old| *old < raised.0.into()) {
        // One that stays says nothing new, and goes the next time.
        if let Err(error) = blobs.remove(&name(old)) {
            tracing::warn!(%error, "an old epoch stays");
        }
    }
    Ok(raised)
}
