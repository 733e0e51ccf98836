//! Whose place it is: one object, put if absent, that names the job and the sink.

use super::paths;
use crate::format::Format;
use bytes::Bytes;
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use waterclock_core::id::BatchId;
use waterclock_core::sink::Owner;
use waterclock_core::storage::Store;
use waterclock_core::{Error, ErrorKind, Result, ResultExt};

#[derive(Serialize, Deserialize)]
struct Claim {
    #[serde(flatten)]
    owner: Owner,
    format: String,
}

/// Claims the place for a sink, and refuses one whose files belong to another job or to another history of this one.
pub(super) fn claim(store: &Store, owner: &Owner, format: Format, last: Option<BatchId>) -> Result<()> {
    match read(store)? {
        None => {
            if let Some(name) = files(store)?.first() {
                return Err(Error::config(format!(
                    "{} holds '{name}', which this job did not write; give the sink an empty place, or one whose name begins with '_'",
                    store.location()
                )));
            }
            make(store, owner, format)?;
        }
        Some(claim) => verify(store, &claim, owner, format)?,
    }
    let ahead = files(store)?.into_iter().find(|name| paths::batch_of(name).is_some_and(|batch| last.is_none_or(|last| batch > last)));
    match ahead {
        None => Ok(()),
        Some(name) => Err(Error::config(format!(
            "{} holds '{name}', but the checkpoint knows no batch behind {}: it is of another history; \
             restore the checkpoint that wrote it, or give the sink another place",
            store.location(),
            last.map_or_else(|| "the beginning".to_owned(), |batch| batch.to_string()),
        ))),
    }
}

/// Who has claimed the place. Changes nothing.
pub(super) fn of(store: &Store) -> Result<Option<Owner>> {
    Ok(read(store)?.map(|claim| claim.owner))
}

fn read(store: &Store) -> Result<Option<Claim>> {
    let path = paths::owner();
    let Some(bytes) = store.get(&path)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).or_error(ErrorKind::Corrupt, || format!("{} can't be read", store.display(&path)))
}

fn make(store: &Store, owner: &Owner, format: Format) -> Result<()> {
    let claim = Claim { owner: owner.clone(), format: format.extension().to_owned() };
    let bytes = serde_json::to_vec(&claim).or_error(ErrorKind::Internal, || "writing a claim".into())?;
    let Err(cause) = store.put_if_absent(&paths::owner(), Bytes::from(bytes)) else { return Ok(()) };
    // A failure is no verdict: the claim may be this one's, written by a request whose answer was lost, or another's.
    match read(store)? {
        Some(found) => verify(store, &found, owner, format),
        None => Err(store.error("claim", &paths::owner(), cause)),
    }
}

fn verify(store: &Store, claim: &Claim, owner: &Owner, format: Format) -> Result<()> {
    if claim.owner != *owner {
        return Err(Error::config(format!(
            "{} belongs to the sink '{}' of job {}, and this is the sink '{}' of job {}; give it another place, or use that job's checkpoint",
            store.location(),
            claim.owner.sink,
            claim.owner.job,
            owner.sink,
            owner.job
        )));
    }
    if claim.format != format.extension() {
        return Err(Error::config(format!(
            "{} holds {} files, and the sink '{}' is now STORED AS {}; give it another place",
            store.location(),
            claim.format,
            owner.sink,
            format
        )));
    }
    Ok(())
}

/// The names of files that readers would take for data.
fn files(store: &Store) -> Result<Vec<String>> {
    let listed = store.wait(store.objects().list_with_delimiter(None));
    let listed = listed.map_err(|cause| store.error("list", &Path::default(), cause))?;
    let names = listed.objects.iter().filter_map(|object| object.location.filename());
    let shown = names.filter(|name| !name.starts_with(['.', '_']));
    Ok(shown.map(str::to_owned).collect())
}
