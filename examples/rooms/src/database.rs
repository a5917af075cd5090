//! Log-ins and notes, in SQLite.

use std::{path::Path, sync::Arc};

use rusqlite::{Connection, OptionalExtension, Result};
use tokio::{sync::Mutex, task::spawn_blocking};

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS session (id TEXT PRIMARY KEY, user TEXT NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS note
        (id INTEGER PRIMARY KEY, room INTEGER NOT NULL, author TEXT NOT NULL, text TEXT NOT NULL)
        STRICT;
    CREATE INDEX IF NOT EXISTS note_room ON note (room, id);
";

/// Number of notes of a room that are shown, the newest ones.
const SHOWN: u32 = 50;

/// The database. A clone refers to the same database.
#[derive(Clone, Debug)]
pub struct Database(Arc<Mutex<Connection>>);

/// A note in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    /// The number of the note. It grows with each note, and no two notes of the database have the
    /// same one.
    pub(crate) id: i64,
    pub(crate) author: String,
    pub(crate) text: String,
}

impl Database {
    /// Opens the file, and creates the tables that are missing.
    ///
    /// # Errors
    /// Returns an error if the file cannot be opened or is not a database.
    pub fn open(file: &Path) -> Result<Self> {
        let connection = Connection::open(file)?;
        connection.execute_batch(TABLES)?;
        Ok(Self(Arc::new(Mutex::new(connection))))
    }

    /// Begins a session of a user. Returns the secret id of the session.
    pub(crate) async fn log_in(&self, user: String) -> Result<String> {
        let mut secret = [0_u8; 16];
        getrandom::fill(&mut secret)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        let id = secret.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let row = (id.clone(), user);
        self.run(|db| db.execute("INSERT INTO session (id, user) VALUES (?1, ?2)", row)).await?;
        Ok(id)
    }

    /// Ends a session. Returns its user.
    pub(crate) async fn log_out(&self, session: &str) -> Result<Option<String>> {
        let row = (session.to_owned(),);
        let sql = "DELETE FROM session WHERE id = ?1 RETURNING user";
        self.run(|db| db.query_row(sql, row, |row| row.get(0)).optional()).await
    }

    /// Returns the user of a session.
    pub(crate) async fn user_of(&self, session: &str) -> Result<Option<String>> {
        let row = (session.to_owned(),);
        let sql = "SELECT user FROM session WHERE id = ?1";
        self.run(|db| db.query_row(sql, row, |row| row.get(0)).optional()).await
    }

    /// Stores a note, and returns it with its id.
    pub(crate) async fn add(&self, room: u32, author: String, text: String) -> Result<Note> {
        self.run(move |db| {
            let sql = "INSERT INTO note (room, author, text) VALUES (?1, ?2, ?3)";
            db.execute(sql, (room, &author, &text))?;
            Ok(Note { id: db.last_insert_rowid(), author, text })
        })
        .await
    }

    /// Returns the newest notes of a room, in the order of their ids.
    pub(crate) async fn notes(&self, room: u32) -> Result<Vec<Note>> {
        self.run(move |db| {
            let mut query = db.prepare(
                "SELECT id, author, text FROM note WHERE room = ?1 ORDER BY id DESC LIMIT ?2",
            )?;
            let notes = query.query_map((room, SHOWN), |row| {
                Ok(Note { id: row.get(0)?, author: row.get(1)?, text: row.get(2)? })
            })?;
            let mut notes = notes.collect::<Result<Vec<_>>>()?;
            notes.reverse();
            Ok(notes)
        })
        .await
    }

    /// Runs `work` in a thread that may block. The database runs one piece of work at a time. If a
    /// caller leaves before its turn, its work is not begun. A crowd that comes and leaves
    /// therefore takes one thread.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let connection = Arc::clone(&self.0).lock_owned().await;
        let work = move || work(&connection);
        let done = spawn_blocking(work).await;
        done.map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?
    }
}
