//! The file of a Unix socket: who listens makes it, and takes it away at the end.

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use crate::Error;

/// The file of a socket that this process listens on.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and number: another process may have made another file of that name.
    id: (u64, u64),
}

impl SocketFile {
    /// Listens at a path. A file that a process left that is gone is taken away first.
    ///
    /// # Errors
    /// When another process listens there, or the file cannot be made.
    pub(crate) fn open(path: &Path, mode: Option<u32>) -> Result<(UnixListener, Self), Error> {
        let open = || {
            remove_if_left(path)?;
            let listener = UnixListener::bind(path)?;
            if let Some(mode) = mode {
                fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
            }
            listener.set_nonblocking(true)?;
            let metadata = fs::symlink_metadata(path)?;
            let id = (metadata.dev(), metadata.ino());
            Ok((listener, Self { path: path.to_owned(), id }))
        };
        open().map_err(|source: io::Error| {
            let path = path.display();
            Error::Config(if source.kind() == io::ErrorKind::AddrInUse {
                format!(
                    "listen: unix:{path} is already in use; stop the other program or choose \
                     another path"
                )
            } else {
                format!("listen: cannot listen on unix:{path}: {source}")
            })
        })
    }
}

/// Takes a socket away that nobody listens on any more.
fn remove_if_left(path: &Path) -> io::Result<()> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_socket());
    match UnixStream::connect(path) {
        Err(error) if is_socket && error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path)
        }
        _ => Ok(()),
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_own = |metadata: fs::Metadata| (metadata.dev(), metadata.ino()) == self.id;
        if fs::symlink_metadata(&self.path).is_ok_and(is_own) {
            // A file that stays is taken away by the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}
