//! Watching files: real files, real events, and the same without events.
//!
//! Nothing here sleeps: every test waits for the change that it made.
#![cfg(test)]

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::digest;
use scopegate::reload::watch::{Change, ChangeKind, MAX_BYTES, Timing, Watcher};
use tempfile::TempDir;
use tokio::sync::mpsc;

/// Longer than any machine takes; reached only when a test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// Quick to settle, so that tests are; polls so rarely that only events can be what tells.
const BY_EVENTS: Timing = Timing {
    settle: Duration::from_millis(50),
    settle_replaced: Duration::from_millis(50),
    poll: Duration::from_secs(3600),
    unrest: Duration::from_secs(3600),
    events: true,
};

/// The same without events.
const BY_POLLING: Timing = Timing { poll: Duration::from_millis(20), events: false, ..BY_EVENTS };

fn hash(content: &[u8]) -> Box<str> {
    let digest = digest::digest(&digest::SHA256, content);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
}

/// A directory with routes.yaml in it.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        fs::write(folder.config(), "old").unwrap();
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn config(&self) -> PathBuf {
        self.path("routes.yaml")
    }

    /// Writes beside the file and renames over it.
    fn rename_over(&self, name: &str, content: &str) {
        let temporary = self.path(".temporary");
        fs::write(&temporary, content).unwrap();
        fs::rename(temporary, self.path(name)).unwrap();
    }
}

/// A watcher and what it tells.
struct Watching {
    watcher: Watcher,
    changes: mpsc::Receiver<Change>,
}

impl Watching {
    async fn over(files: Vec<PathBuf>, timing: Timing) -> Self {
        let (tx, changes) = mpsc::channel(1);
        let watcher = Watcher::with_timing(files, tx, timing).await;
        Self { watcher, changes }
    }

    async fn next(&mut self) -> Change {
        tokio::time::timeout(PATIENCE, self.changes.recv()).await.expect("a change is told").unwrap()
    }

    /// Waits until the configuration file is told to have this content; returns that change and how many came before.
    async fn until(&mut self, content: &str) -> (Change, usize) {
        for before in 0.. {
            let change = self.next().await;
            if change.config_hash == Some(hash(content.as_bytes())) {
                return (change, before);
            }
        }
        unreachable!()
    }

    /// Waits until the configuration file is told to have been given this content in place. It may be told before that,
    /// with another: a write makes the file empty first.
    async fn expect_written(&mut self, content: &str) {
        let (change, _) = self.until(content).await;
        Self::expect(&change, ChangeKind::WrittenInPlace, Some(content));
    }

    #[track_caller]
    fn expect(change: &Change, how: ChangeKind, content: Option<&str>) {
        let config_hash = content.map(|content| hash(content.as_bytes()));
        assert_eq!(*change, Change { how, config_changed: true, config_hash });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_renamed_over_is_replaced() {
    for timing in [BY_EVENTS, BY_POLLING] {
        let folder = Folder::new();
        let mut watching = Watching::over(vec![folder.config()], timing).await;
        for content in ["one", "two", "three"] {
            folder.rename_over("routes.yaml", content);
            Watching::expect(&watching.next().await, ChangeKind::Replaced, Some(content));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_written_in_place_says_so_until_it_is_replaced() {
    for timing in [BY_EVENTS, BY_POLLING] {
        let folder = Folder::new();
        fs::write(folder.path("key.pem"), "key").unwrap();
        let mut watching = Watching::over(vec![folder.config(), folder.path("key.pem")], timing).await;
        fs::write(folder.config(), "new").unwrap();
        watching.expect_written("new").await;

        // Another file does not make it whole.
        folder.rename_over("key.pem", "other key");
        let change = watching.next().await;
        assert_eq!((change.how, change.config_changed), (ChangeKind::WrittenInPlace, false), "{timing:?}");

        // The same content by a rename does.
        folder.rename_over("routes.yaml", "new");
        Watching::expect(&watching.next().await, ChangeKind::Replaced, Some("new"));
        folder.rename_over("key.pem", "third key");
        let change = watching.next().await;
        assert_eq!((change.how, change.config_changed), (ChangeKind::Replaced, false), "{timing:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_that_keeps_size_and_times_is_seen_by_polling() {
    let folder = Folder::new();
    let modified = fs::metadata(folder.config()).unwrap().modified().unwrap();
    let mut watching = Watching::over(vec![folder.config()], BY_POLLING).await;
    let mut file = OpenOptions::new().write(true).open(folder.config()).unwrap();
    file.write_all(b"new").unwrap();
    file.set_modified(modified).unwrap();
    drop(file);
    assert_eq!(fs::metadata(folder.config()).unwrap().modified().unwrap(), modified);
    Watching::expect(&watching.next().await, ChangeKind::WrittenInPlace, Some("new"));
}

/// A ConfigMap as the kubelet mounts it: `routes.yaml → ..data/routes.yaml`, `..data → ..2026_n`.
struct ConfigMap {
    folder: TempDir,
    version: u32,
}

impl ConfigMap {
    fn new(content: &str) -> Self {
        let mut map = Self { folder: tempfile::tempdir().unwrap(), version: 0 };
        map.publish(content);
        symlink("..data/routes.yaml", map.config()).unwrap();
        map
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("routes.yaml")
    }

    fn publish(&mut self, content: &str) {
        let root = self.folder.path();
        let (old, new) = (format!("..2026_{}", self.version), format!("..2026_{}", self.version + 1));
        self.version += 1;
        fs::create_dir(root.join(&new)).unwrap();
        fs::write(root.join(&new).join("routes.yaml"), content).unwrap();
        symlink(&new, root.join("..data_tmp")).unwrap();
        fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
        if root.join(&old).exists() {
            fs::remove_dir_all(root.join(&old)).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_swap_of_a_config_map_is_a_replacement() {
    for timing in [BY_EVENTS, BY_POLLING] {
        let mut map = ConfigMap::new("zero");
        let mut watching = Watching::over(vec![map.config()], timing).await;
        for content in ["one", "two", "three"] {
            map.publish(content);
            Watching::expect(&watching.next().await, ChangeKind::Replaced, Some(content));
        }
        // A file reached through two links can be written in place as well.
        fs::write(map.config(), "four").unwrap();
        watching.expect_written("four").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_led_elsewhere_is_a_replacement_and_is_followed() {
    for timing in [BY_EVENTS, BY_POLLING] {
        let (folder, elsewhere) = (Folder::new(), tempfile::tempdir().unwrap());
        fs::remove_file(folder.config()).unwrap();
        fs::write(folder.path("here.yaml"), "here").unwrap();
        fs::write(elsewhere.path().join("there.yaml"), "there").unwrap();
        symlink("here.yaml", folder.config()).unwrap();
        let mut watching = Watching::over(vec![folder.config()], timing).await;

        symlink(elsewhere.path().join("there.yaml"), folder.path("link")).unwrap();
        fs::rename(folder.path("link"), folder.config()).unwrap();
        Watching::expect(&watching.next().await, ChangeKind::Replaced, Some("there"));

        fs::write(elsewhere.path().join("there.yaml"), "there, later").unwrap();
        watching.expect_written("there, later").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_deleted_and_made_again_is_not_a_replacement() {
    for timing in [BY_EVENTS, BY_POLLING] {
        let folder = Folder::new();
        let mut watching = Watching::over(vec![folder.config()], timing).await;
        fs::remove_file(folder.config()).unwrap();
        Watching::expect(&watching.next().await, ChangeKind::WrittenInPlace, None);
        fs::write(folder.config(), "again").unwrap();
        watching.expect_written("again").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_made_again_at_once_is_told_from_one_renamed_there() {
    let folder = Folder::new();
    let mut watching = Watching::over(vec![folder.config()], BY_EVENTS).await;
    fs::remove_file(folder.config()).unwrap();
    fs::write(folder.config(), "made").unwrap();
    Watching::expect(&watching.until("made").await.0, ChangeKind::WrittenInPlace, Some("made"));
    fs::remove_file(folder.config()).unwrap();
    folder.rename_over("routes.yaml", "renamed");
    Watching::expect(&watching.until("renamed").await.0, ChangeKind::Replaced, Some("renamed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_comes_later_is_watched_as_it_comes() {
    let folder = Folder::new();
    let config = folder.path("a/b/routes.yaml");
    let mut watching = Watching::over(vec![config.clone()], BY_EVENTS).await;
    fs::create_dir_all(config.parent().unwrap()).unwrap();
    fs::write(&config, "first").unwrap();
    assert_eq!(watching.until("first").await.0.how, ChangeKind::WrittenInPlace);

    fs::rename(folder.path("a"), folder.path("gone")).unwrap();
    fs::create_dir_all(folder.path("new/b")).unwrap();
    fs::write(folder.path("new/b/routes.yaml"), "second").unwrap();
    fs::rename(folder.path("new"), folder.path("a")).unwrap();
    // Nothing on the watched way tells of a directory further up; the next event or poll does.
    watching.watcher.set_files(vec![config.clone()]).await;
    watching.until("second").await;
    fs::write(&config, "third").unwrap();
    watching.until("third").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_may_not_be_read_for_a_while_is_read_after() {
    let folder = Folder::new();
    let mut watching = Watching::over(vec![folder.config()], BY_EVENTS).await;
    let mode = |mode| fs::set_permissions(folder.config(), fs::Permissions::from_mode(mode)).unwrap();
    mode(0o000);
    if fs::read(folder.config()).is_err() {
        Watching::expect(&watching.next().await, ChangeKind::WrittenInPlace, None);
        mode(0o644);
        // The same file with the same content: what it was before.
        Watching::expect(&watching.next().await, ChangeKind::Replaced, Some("old"));
    } else {
        // The superuser may read anything, so nothing changed.
        mode(0o644);
    }
    fs::write(folder.config(), "new").unwrap();
    watching.expect_written("new").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_regular_file_is_never_read() {
    type Make = fn(&Path);
    let makers: [(Make, &str); 5] = [
        (|path| fs::create_dir(path).unwrap(), "a directory"),
        (
            |path| assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success()),
            "a FIFO without a writer",
        ),
        (|path| symlink("/dev/zero", path).unwrap(), "an endless device"),
        (|path| symlink("routes.yaml", path).unwrap(), "a link to itself"),
        (|path| fs::File::create(path).unwrap().set_len(MAX_BYTES + 1).unwrap(), "a file that is too large"),
    ];
    for (make, message) in makers {
        for timing in [BY_EVENTS, BY_POLLING] {
            let folder = Folder::new();
            let mut watching = Watching::over(vec![folder.config()], timing).await;
            fs::remove_file(folder.config()).unwrap();
            make(&folder.config());
            assert_eq!(watching.next().await.config_hash, None, "{message}");
            fs::rename(folder.config(), folder.path("away")).unwrap();
            folder.rename_over("routes.yaml", "back");
            watching.until("back").await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_writes_is_few_changes_and_the_last_content_is_seen() {
    let folder = Folder::new();
    // Longer than any pause within a burst.
    let long = Duration::from_millis(500);
    let timing = Timing { settle: long, settle_replaced: long, ..BY_EVENTS };
    let mut watching = Watching::over(vec![folder.config()], timing).await;
    for number in 0..=100 {
        fs::write(folder.config(), format!("{number}")).unwrap();
    }
    let (change, before) = watching.until("100").await;
    assert!(before < 10, "{before} changes for one burst");
    assert_eq!(change.how, ChangeKind::WrittenInPlace);

    for number in 0..=100 {
        folder.rename_over("routes.yaml", &format!("{number}"));
    }
    folder.rename_over("routes.yaml", "the end");
    let (change, before) = watching.until("the end").await;
    assert!(before < 10, "{before} changes for one burst");
    assert_eq!(change.how, ChangeKind::Replaced);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_replacements_does_not_hold_up_the_policy() {
    let folder = Folder::new();
    // Content never settles: it would have to be the same for an hour.
    let timing = Timing {
        settle_replaced: Duration::from_millis(10),
        unrest: Duration::from_millis(100),
        ..BY_EVENTS
    };
    let mut watching = Watching::over(vec![folder.config()], timing).await;
    let writing = async {
        for number in 0_u64.. {
            folder.rename_over("routes.yaml", &number.to_string());
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        change = watching.next() => assert_eq!(change.how, ChangeKind::Replaced),
        () = writing => unreachable!(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_alone_is_replaced_settles_sooner() {
    let folder = Folder::new();
    let timing = Timing { settle: Duration::from_secs(3600), ..BY_EVENTS };
    let mut watching = Watching::over(vec![folder.config()], timing).await;
    folder.rename_over("routes.yaml", "new");
    assert_eq!(watching.next().await.how, ChangeKind::Replaced);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_files_can_be_watched_instead_and_nothing_is_lost() {
    let folder = Folder::new();
    let (first, second) = (folder.path("first.pem"), folder.path("second.pem"));
    fs::write(&first, "1").unwrap();
    fs::write(&second, "2").unwrap();
    let mut watching = Watching::over(vec![folder.config(), first.clone()], BY_EVENTS).await;

    // Changed and set at once: the change of a file that stays is told all the same.
    folder.rename_over("routes.yaml", "new");
    watching.watcher.set_files(vec![folder.config(), second.clone()]).await;
    Watching::expect(&watching.next().await, ChangeKind::Replaced, Some("new"));

    fs::write(&first, "not watched any more").unwrap();
    folder.rename_over("second.pem", "22");
    assert!(!watching.next().await.config_changed);
    assert!(watching.changes.try_recv().is_err(), "one change and not two");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_receiver_gets_one_change_for_all_that_it_missed() {
    let folder = Folder::new();
    let key = folder.path("key.pem");
    fs::write(&key, "0").unwrap();
    let mut watching = Watching::over(vec![folder.config(), key.clone()], BY_EVENTS).await;
    folder.rename_over("routes.yaml", "1");
    // One waits in the channel; commands are still answered while another waits behind it.
    while watching.changes.is_empty() {
        tokio::task::yield_now().await;
    }
    folder.rename_over("routes.yaml", "2");
    watching.watcher.set_files(vec![folder.config(), key.clone()]).await;
    Watching::expect(&watching.next().await, ChangeKind::Replaced, Some("1"));
    let (change, _) = watching.until("2").await;
    assert_eq!(change.how, ChangeKind::Replaced);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_that_is_dropped_ends() {
    let folder = Folder::new();
    let Watching { watcher, mut changes } = Watching::over(vec![folder.config()], BY_EVENTS).await;
    drop(watcher);
    let end = tokio::time::timeout(PATIENCE, changes.recv()).await;
    assert_eq!(end.expect("the task ends"), None);
}
