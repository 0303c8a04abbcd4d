//! The primary's side: answers, one request after the other, without touching the log.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use super::{FILES_MAX, HASHES_IN_ANSWER};
use crate::apply::{BlockHashes, Zeroes};
use crate::journal::{Journal, Trees};
use crate::link::LinkError;
use crate::link::channel::{Channel, Inbox};
use crate::link::shipper::Shipper;
use crate::record::FileId;
use crate::resync::BLOCK_BYTES;
use crate::wire::{self, Control, Listing};

/// A file of which not all hashes were asked.
struct Reading {
    hashes: BlockHashes,
    next_block: u64,
}

/// See the module.
pub struct Answerer {
    channel: Arc<Channel>,
    trees: Arc<dyn Trees>,
    shipper: Arc<Shipper>,
    readings: HashMap<FileId, Reading>,
}

impl Answerer {
    #[must_use]
    pub fn new(channel: Arc<Channel>, trees: Arc<dyn Trees>, shipper: Arc<Shipper>) -> Answerer {
        Answerer {
            channel,
            trees,
            shipper,
            readings: HashMap::new(),
        }
    }

    /// Answers until the connection ends; says why it did.
    pub fn serve(mut self, inbox: &mut Inbox) -> LinkError {
        loop {
            let heard = inbox.control(&self.channel);
            if let Err(error) = heard.and_then(|request| self.answer(request)) {
                return error;
            }
        }
    }

    fn answer(&mut self, request: Control) -> Result<(), LinkError> {
        match request {
            Control::Keepalive => Ok(()),
            Control::WantListing { directory } => self.list(directory),
            Control::WantHashes { file, first_block } => self.hash(file, first_block),
            Control::WantPosition => {
                self.trees.settle()?;
                self.shipper.flush();
                self.send(&Control::Position {
                    log: self.shipper.log(),
                    last: self.shipper.last(),
                })
            }
            other => Err(LinkError::Unexpected(format!("{other:?}"))),
        }
    }

    fn send(&self, control: &Control) -> Result<(), LinkError> {
        Ok(self.channel.send_control(control)?)
    }

    fn list(&self, directory: FileId) -> Result<(), LinkError> {
        let mut bytes = Vec::new();
        let listed = self.trees.list(directory, &mut |itself, entries| {
            for part in Listing::in_parts(directory, itself, entries) {
                wire::encode_control(&Control::Names(part), &mut bytes);
            }
        });
        match listed {
            Ok(()) => Ok(self.channel.send(&bytes)?),
            Err(error) if is_gone(&error) => self.send(&Control::Vanished { file: directory }),
            Err(error) => Err(error.into()),
        }
    }

    fn hash(&mut self, file: FileId, first_block: u64) -> Result<(), LinkError> {
        if first_block == 0 {
            self.readings.remove(&file);
            let opened = match self.trees.open(file) {
                Ok(opened) => opened,
                Err(error) if is_gone(&error) => return self.send(&Control::Vanished { file }),
                Err(error) => return Err(error.into()),
            };
            if self.readings.len() >= FILES_MAX {
                return Err(LinkError::Unexpected("too many files at a time".to_owned()));
            }
            let hashes = BlockHashes::new(opened, BLOCK_BYTES, Zeroes::AreHoles)?;
            self.readings.insert(
                file,
                Reading {
                    hashes,
                    next_block: 0,
                },
            );
        }
        let reading = self.readings.get_mut(&file);
        let reading = reading.filter(|reading| reading.next_block == first_block);
        let Some(reading) = reading else {
            return Err(LinkError::Unexpected("hashes out of order".to_owned()));
        };
        let hashes = reading.hashes.by_ref().take(HASHES_IN_ANSWER);
        let hashes = hashes.collect::<io::Result<Vec<_>>>()?;
        reading.next_block += hashes.len() as u64;
        let is_last = reading.hashes.is_at_end();
        if is_last {
            self.readings.remove(&file);
        }
        self.send(&Control::Hashes {
            file,
            first_block,
            hashes,
            is_last,
        })
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESTALE))
}
