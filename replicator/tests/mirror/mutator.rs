//! Changes a directory at random, reproducibly: every kind of object and every kind of change.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, Mode, RenameFlags, XattrFlags, fallocate, linkat,
    mknodat, renameat_with, setxattr,
};

/// `SplitMix64`: small, and good enough to choose operations.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// A seed from the environment, or a new one; printed, so that a failure can be repeated.
pub fn seed() -> u64 {
    let given = std::env::var("TELAMON_SEED")
        .ok()
        .map(|text| text.parse().unwrap());
    let seed = given.unwrap_or_else(|| {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap();
        u64::from(now.subsec_nanos()) ^ now.as_secs() << 20
    });
    println!("TELAMON_SEED={seed}");
    seed
}

/// Works below one directory.
pub struct Mutator {
    root: PathBuf,
    random: Random,
    preallocates: bool,
}

/// Few names, so that operations meet.
const NAMES: u64 = 12;

impl Mutator {
    pub fn new(root: &Path, seed: u64) -> Mutator {
        Mutator {
            root: root.to_owned(),
            random: Random::new(seed),
            preallocates: false,
        }
    }

    /// Also reserves space. What is reserved and not written reads as a hole or as data depending on what is cached, so only trees
    /// that got the very same operations can be compared after it.
    pub fn preallocating(self) -> Mutator {
        Mutator {
            preallocates: true,
            ..self
        }
    }

    /// Carries out `count` operations. What cannot be done (no such file, not empty, …) is part of the game.
    pub fn run(&mut self, count: usize) {
        for _ in 0..count {
            self.step();
        }
    }

    /// One operation; true if it worked.
    pub fn step(&mut self) -> bool {
        let (path, other) = (self.path(), self.path());
        let kind = self.random.below(22);
        self.change(kind, &path, &other).is_ok()
    }

    fn path(&mut self) -> PathBuf {
        let mut path = self.root.clone();
        for _ in 0..=self.random.below(3) {
            let number = self.random.below(NAMES);
            let mut name = format!("n{number}").into_bytes();
            match number {
                0 => name.extend_from_slice(b" \n\xff"),
                1 => name.resize(255, b'x'),
                _ => {}
            }
            path.push(std::ffi::OsString::from_vec(name));
        }
        path
    }

    fn change(&mut self, kind: u64, path: &Path, other: &Path) -> io::Result<()> {
        match kind {
            0 | 1 => fs::create_dir(path),
            2..=4 => self.write(path),
            5 => existing(path)?.set_len(self.random.below(400_000)),
            6 => self.punch(path),
            7 | 8 => fs::rename(path, other),
            9 => Ok(renameat_with(CWD, path, CWD, other, RenameFlags::EXCHANGE)?),
            10 => fs::hard_link(path, other),
            11 => fs::remove_file(path),
            12 => fs::remove_dir(path),
            13 => symlink(self.random.next().to_string(), path),
            14 => self.permissions(path),
            15 => self.times(path),
            16 => self.extended(path),
            17 => self.special(path),
            18 => self.replace(path),
            19 => fs::remove_dir_all(path),
            20 => self.unnamed(path),
            _ => reading(path)?.sync_all(),
        }
    }

    fn content(&mut self) -> Vec<u8> {
        let length = match self.random.below(10) {
            0 => 0,
            1 => 300_000,
            _ => self.random.below(9000),
        };
        let byte = u8::try_from(self.random.below(256)).unwrap();
        vec![byte; usize::try_from(length).unwrap()]
    }

    fn write(&mut self, path: &Path) -> io::Result<()> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)?;
        let offset = match self.random.below(8) {
            0 => self.random.below(3_000_000),
            _ => self.random.below(20_000),
        };
        file.write_all_at(&self.content(), offset)?;
        if self.random.below(20) == 0 {
            file.sync_data()?;
        }
        Ok(())
    }

    fn punch(&mut self, path: &Path) -> io::Result<()> {
        let file = existing(path)?;
        let flags = match self.random.below(if self.preallocates { 3 } else { 1 }) {
            0 => FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
            1 => FallocateFlags::ZERO_RANGE,
            _ => FallocateFlags::empty(),
        };
        let (offset, length) = (self.random.below(100_000), 1 + self.random.below(100_000));
        Ok(fallocate(file, flags, offset, length)?)
    }

    fn permissions(&mut self, path: &Path) -> io::Result<()> {
        let owner = u32::try_from(self.random.below(3000)).unwrap();
        std::os::unix::fs::lchown(path, Some(owner), None)?;
        let mode = u32::try_from(self.random.below(0o10000)).unwrap() | 0o700;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    }

    fn times(&mut self, path: &Path) -> io::Result<()> {
        let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(self.random.next() >> 2);
        reading(path)?.set_times(fs::FileTimes::new().set_modified(time).set_accessed(time))
    }

    fn extended(&mut self, path: &Path) -> io::Result<()> {
        let name = format!("user.k{}", self.random.below(4));
        if self.random.below(3) == 0 {
            return Ok(rustix::fs::removexattr(path, name.as_str())?);
        }
        let value = self.random.next().to_string();
        Ok(setxattr(
            path,
            name.as_str(),
            value.as_bytes(),
            XattrFlags::empty(),
        )?)
    }

    fn special(&mut self, path: &Path) -> io::Result<()> {
        let (kind, device) = match self.random.below(3) {
            0 => (FileType::Fifo, 0),
            1 => (FileType::Socket, 0),
            _ => (FileType::CharacterDevice, rustix::fs::makedev(1, 3)),
        };
        Ok(mknodat(
            CWD,
            path,
            kind,
            Mode::from_raw_mode(0o644),
            device,
        )?)
    }

    /// As editors do: a new file renamed over the old one.
    fn replace(&mut self, path: &Path) -> io::Result<()> {
        let mut temporary = path.to_owned();
        temporary.set_file_name("temporary");
        fs::write(&temporary, self.content())?;
        if self.random.below(3) == 0 {
            File::open(&temporary)?.sync_all()?;
        }
        fs::rename(&temporary, path)
    }

    /// A file that gets its name last (`O_TMPFILE`).
    fn unnamed(&mut self, path: &Path) -> io::Result<()> {
        use std::os::fd::AsRawFd;
        let parent = path.parent().unwrap_or(path);
        let file = OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_TMPFILE)
            .mode(0o600)
            .open(parent)?;
        file.write_all_at(&self.content(), 0)?;
        if self.random.below(3) == 0 {
            return Ok(());
        }
        let link = format!("/proc/self/fd/{}", file.as_raw_fd());
        Ok(linkat(CWD, link, CWD, path, AtFlags::SYMLINK_FOLLOW)?)
    }
}

/// A mutator that does not stop until it is told to.
pub struct Storm {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Storm {
    pub fn begin(root: &Path, seed: u64) -> Storm {
        let mut mutator = Mutator::new(root, seed);
        let is_over = Arc::new(AtomicBool::new(false));
        let end = is_over.clone();
        let thread = std::thread::spawn(move || {
            let mut count = 0;
            while !end.load(Ordering::Relaxed) {
                count += u64::from(mutator.step());
            }
            count
        });
        Storm { is_over, thread }
    }

    /// Returns how many operations worked.
    pub fn end(self) -> u64 {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// An opened FIFO must not wait for a partner that never comes.
fn existing(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
}

fn reading(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
}
