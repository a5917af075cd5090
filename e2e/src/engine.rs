//! The three engines: where Debian's packages install them, how each is started, and how it ends.

use std::{
    fmt,
    fs::{self, File},
    io::{BufRead, BufReader, ErrorKind},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    Result, Stop,
    browser::Browser,
    marionette::Marionette,
    minibrowser::{self, Agents, MiniBrowser},
    pages::INSECURE_HOST,
    ports,
    process::Group,
    wait,
    webdriver::{Crash, WebDriver},
};

/// A browser engine that is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Chromium, driven by chromedriver.
    Chromium,
    /// Firefox, driven by Marionette.
    Firefox,
    /// WebKitGTK's MiniBrowser, driven by WebKitWebDriver.
    WebKit,
}

impl Engine {
    /// All engines, in the order in which they are tested.
    pub const ALL: [Self; 3] = [Self::Chromium, Self::Firefox, Self::WebKit];

    /// Returns the engine with that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|engine| engine.to_string() == name)
    }

    /// Fails with the command that installs it if a program of this engine is missing.
    pub fn check(self) -> Result<()> {
        for program in self.programs() {
            if find(program).is_none() {
                return Err(format!(
                    "{program} is missing: apt-get install -y --no-install-recommends {}",
                    self.packages()
                ));
            }
        }
        Ok(())
    }

    fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Chromium => &["chromium", "chromedriver"],
            Self::Firefox => &["firefox-esr"],
            Self::WebKit => &["WebKitWebDriver", MINI_BROWSER, "Xvfb"],
        }
    }

    fn packages(self) -> &'static str {
        match self {
            Self::Chromium => "chromium chromium-driver",
            Self::Firefox => "firefox-esr",
            Self::WebKit => "webkit2gtk-driver xvfb xauth",
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Chromium => "chromium",
            Self::Firefox => "firefox",
            Self::WebKit => "webkit",
        })
    }
}

/// A running browser with all its processes and an empty profile of its own. All of it is removed
/// on drop.
#[derive(Debug)]
pub struct Session {
    /// The browser with its tabs.
    pub browser: Browser,
    groups: Vec<Group>,
    folder: Folder,
}

impl Session {
    /// Starts `engine` with a new profile.
    pub fn start(engine: Engine) -> Result<Self> {
        Self::start_by(engine, Storage::Allowed, &[], start_webkit)
    }

    /// Starts `engine` so that it outlives the processes of its pages. WebKitGTK is started without
    /// its driver, the others as [`Session::start`] does.
    pub fn start_for_crashes(engine: Engine) -> Result<Self> {
        Self::start_by(engine, Storage::Allowed, &[], start_plain_webkit)
    }

    /// Does the same, but Chromium lets timers of a page run only once a minute after the page has
    /// been hidden for 10 s. Otherwise it does so after 5 minutes.
    pub fn start_for_hidden_crashes(engine: Engine) -> Result<Self> {
        let soon = "--enable-features=IntensiveWakeUpThrottling:grace_period_seconds/10";
        Self::start_by(engine, Storage::Allowed, &[soon], start_plain_webkit)
    }

    /// Starts `engine` with a profile whose user has forbidden all sites to keep data.
    pub fn start_without_storage(engine: Engine) -> std::result::Result<Self, Stop> {
        if engine == Engine::WebKit {
            return Err(Stop::Skipped("MiniBrowser has no setting that refuses storage".into()));
        }
        Ok(Self::start_by(engine, Storage::Refused, &[], start_webkit)?)
    }

    fn start_by(
        engine: Engine,
        storage: Storage,
        chromium: &[&str],
        start_webkit: fn(&Path) -> Result<Started>,
    ) -> Result<Self> {
        engine.check()?;
        let folder = Folder::new()?;
        let (mut browser, groups) = match engine {
            Engine::Chromium => start_chromium(&folder.0, storage, chromium),
            Engine::Firefox => start_firefox(&folder.0, storage),
            Engine::WebKit => start_webkit(&folder.0),
        }
        .map_err(|error| format!("cannot start {engine}: {error}{}", folder.driver_log()))?;
        browser.groups = groups.iter().map(Group::id).collect();
        Ok(Self { browser, groups, folder })
    }

    /// Returns the process groups of this session. A deadline kills them.
    pub fn group_ids(&self) -> Vec<i32> {
        self.groups.iter().map(Group::id).collect()
    }

    /// Returns the last lines that the driver wrote.
    pub fn driver_log(&self) -> String {
        self.folder.driver_log()
    }
}

/// Whether sites may keep data: cookies, localStorage, and everything that browsers treat like
/// them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Storage {
    Allowed,
    Refused,
}

/// The browser and the process groups of an engine that has started.
type Started = (Browser, Vec<Group>);

/// Longest time that a driver or a browser may take to listen. A cold start on a busy machine is
/// slow.
const START: Duration = Duration::from_secs(30);

const MINI_BROWSER: &str = "webkit2gtk-4.1/MiniBrowser";

fn start_chromium(folder: &Path, storage: Storage, more: &[&str]) -> Result<Started> {
    let port = ports::free()?;
    let mut command = driver("chromedriver", folder)?;
    let group = Group::spawn(command.arg(format!("--port={port}")))?;
    let preferences = match storage {
        Storage::Allowed => json!({}),
        // The setting "block all cookies", as chrome://settings writes it.
        Storage::Refused => json!({ "profile.default_content_setting_values.cookies": 2 }),
    };
    let own = [
        format!("--host-resolver-rules=MAP {INSECURE_HOST} 127.0.0.1"),
        format!("--user-data-dir={}", folder.join("profile").display()),
    ];
    let arguments = CHROMIUM.iter().chain(more).copied().chain(own.iter().map(String::as_str));
    let capabilities = json!({
        "browserName": "chrome",
        "goog:chromeOptions": {
            "binary": program("chromium")?,
            "prefs": preferences,
            "args": arguments.collect::<Vec<_>>(),
        },
    });
    let crash = Crash::Page("chrome://crash");
    Ok((connect(port, &capabilities, crash)?, vec![group]))
}

/// The arguments with which Chromium is always started.
const CHROMIUM: [&str; 9] = [
    "--headless",
    // Chromium's sandbox refuses to run as root.
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
];

fn start_firefox(folder: &Path, storage: Storage) -> Result<Started> {
    let port = ports::free()?;
    let profile = folder.join("profile");
    fs::create_dir_all(&profile).map_err(|error| error.to_string())?;
    fs::write(profile.join("user.js"), firefox_preferences(port, storage))
        .map_err(|error| error.to_string())?;
    let mut command = driver("firefox-esr", folder)?;
    command
        // The last flag lets a test read the process number of a tab, to kill it.
        .args([
            "-headless",
            "-no-remote",
            "--marionette",
            "-remote-allow-system-access",
            "-profile",
        ])
        .arg(&profile)
        .env("MOZ_CRASHREPORTER_DISABLE", "1");
    let group = Group::spawn(&mut command)?;
    let session = Marionette::connect(local(port), START)?;
    Ok((Browser::new(Box::new(session))?, vec![group]))
}

fn start_webkit(folder: &Path) -> Result<Started> {
    // MiniBrowser has no headless switch.
    let (display, screen) = start_screen(folder)?;
    let port = ports::free()?;
    let mut command = on_screen("WebKitWebDriver", folder, &display)?;
    command.args([format!("--port={port}"), "--host=127.0.0.1".into()]);
    let group = Group::spawn(&mut command)?;
    let capabilities = json!({
        "browserName": "MiniBrowser",
        "webkitgtk:browserOptions": { "binary": program(MINI_BROWSER)?, "args": ["--automation"] },
    });
    let crash = Crash::Impossible("WebKitWebDriver ends the session when a page's process dies");
    // The driver is ended first, because a browser without its screen would only complain.
    Ok((connect(port, &capabilities, crash)?, vec![group, screen]))
}

/// Starts WebKitGTK without automation. Agents in the pages drive it.
fn start_plain_webkit(folder: &Path) -> Result<Started> {
    let (display, screen) = start_screen(folder)?;
    let agents = Agents::start()?;
    let mut command = on_screen(MINI_BROWSER, folder, &display)?;
    command
        .arg("--javascript-can-open-windows-automatically=true")
        .arg(agents.first_page(minibrowser::HOME));
    let group = Group::spawn(&mut command)?;
    let session = MiniBrowser::connect(agents, group.id(), START)?;
    Ok((Browser::new(Box::new(session))?, vec![group, screen]))
}

/// Returns a command of WebKitGTK, which needs a display.
fn on_screen(name: &str, folder: &Path, display: &str) -> Result<Command> {
    let mut command = driver(name, folder)?;
    command
        .env("DISPLAY", display)
        .env("XDG_RUNTIME_DIR", folder)
        .env("NO_AT_BRIDGE", "1")
        .env("GSETTINGS_BACKEND", "memory")
        .env("GDK_BACKEND", "x11")
        .env("LIBGL_ALWAYS_SOFTWARE", "1");
    Ok(command)
}

/// Starts an X server without a screen on a free display, and returns the display's name.
fn start_screen(folder: &Path) -> Result<(String, Group)> {
    let mut command = driver("Xvfb", folder)?;
    command
        .args(["-displayfd", "1", "-screen", "0", "1280x1024x24", "-nolisten", "tcp"])
        .stdout(Stdio::piped());
    let mut group = Group::spawn(&mut command)?;
    let output = group.leader().stdout.take().ok_or("Xvfb has no output")?;
    let mut number = String::new();
    BufReader::new(output).read_line(&mut number).map_err(|error| error.to_string())?;
    if number.trim().is_empty() {
        return Err("Xvfb ended without a display".into());
    }
    Ok((format!(":{}", number.trim()), group))
}

fn connect(port: u16, capabilities: &Value, crash: Crash) -> Result<Browser> {
    wait::until("the driver to listen", START, || {
        TcpStream::connect(local(port)).map_err(|error| error.to_string())
    })?;
    Browser::new(Box::new(WebDriver::connect(local(port), capabilities, crash)?))
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Returns a command whose home is `folder` and whose output goes into a file there.
fn driver(name: &str, folder: &Path) -> Result<Command> {
    let log = File::options()
        .create(true)
        .append(true)
        .open(folder.join(DRIVER_LOG))
        .map_err(|error| error.to_string())?;
    let mut command = Command::new(program(name)?);
    if let Some(temporary) = temporary(folder)? {
        command.env("TMPDIR", temporary);
    }
    command
        .env("HOME", folder)
        .stdin(Stdio::null())
        .stderr(log.try_clone().map_err(|error| error.to_string())?)
        .stdout(log);
    Ok(command)
}

const DRIVER_LOG: &str = "driver.log";

/// Returns the folder for temporary files of a session's programs, which are killed and would leave
/// them in the system's folder for ever. Returns `None` if the paths of their sockets would be too
/// long.
fn temporary(folder: &Path) -> Result<Option<PathBuf>> {
    let temporary = folder.join("t");
    if temporary.as_os_str().len() + LONGEST_SOCKET > SOCKET_PATH {
        return Ok(None);
    }
    fs::create_dir_all(&temporary).map_err(|error| error.to_string())?;
    Ok(Some(temporary))
}

/// Longest path of a socket that the system accepts.
const SOCKET_PATH: usize = 107;

/// Length of the longest path of a socket below it, Chromium's
/// `/org.chromium.Chromium.XXXXXX/SingletonSocket`, and some room.
const LONGEST_SOCKET: usize = 64;

fn program(name: &str) -> Result<PathBuf> {
    find(name).ok_or_else(|| format!("{name} is missing"))
}

/// Looks for a program on the path, and for MiniBrowser in the folders of its library.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join(name));
    let libraries = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let in_library = libraries.map(|folder| folder.path().join(name));
    on_path.chain(in_library).find(|file| file.is_file())
}

/// Returns preferences that switch off everything by which Firefox would use the network by itself,
/// and what makes its clocks coarse.
fn firefox_preferences(port: u16, storage: Storage) -> String {
    let cookies = match storage {
        // The default of a new profile: cookies of other sites are kept apart.
        Storage::Allowed => 5,
        // The setting "block all cookies".
        Storage::Refused => 2,
    };
    let preferences = json!({
        "marionette.port": port,
        "app.normandy.enabled": false,
        "app.update.enabled": false,
        "browser.region.network.url": "",
        "browser.safebrowsing.downloads.remote.enabled": false,
        "browser.safebrowsing.malware.enabled": false,
        "browser.safebrowsing.phishing.enabled": false,
        "browser.shell.checkDefaultBrowser": false,
        "browser.startup.page": 0,
        "datareporting.policy.dataSubmissionEnabled": false,
        "datareporting.policy.dataSubmissionPolicyBypassNotification": true,
        "dom.push.connection.enabled": false,
        "extensions.update.enabled": false,
        "network.captive-portal-service.enabled": false,
        "network.connectivity-service.enabled": false,
        "network.cookie.cookieBehavior": cookies,
        "network.dns.localDomains": INSECURE_HOST,
        "network.trr.mode": 5,
        "privacy.reduceTimerPrecision": false,
        "services.settings.server": "http://127.0.0.1:9/",
        "toolkit.telemetry.enabled": false,
    });
    let preferences = preferences.as_object().into_iter().flatten();
    preferences.map(|(name, value)| format!("user_pref({name:?}, {value});\n")).collect()
}

/// Removes what the sessions of this process have left on disk.
pub fn remove_folders() {
    // A dying browser may still write. Files that are left in the temporary folder do no harm.
    drop(fs::remove_dir_all(all_folders()));
}

fn all_folders() -> PathBuf {
    std::env::temp_dir().join(format!("tabmux-e2e-{}", std::process::id()))
}

/// The folder of one session's profile and logs.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        static SESSIONS: AtomicU32 = AtomicU32::new(0);
        let session = SESSIONS.fetch_add(1, Ordering::Relaxed);
        let folder = all_folders().join(session.to_string());
        fs::create_dir_all(&folder)
            .map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
        Ok(Self(folder))
    }

    fn driver_log(&self) -> String {
        let log = fs::read(self.0.join(DRIVER_LOG)).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        let last = &lines[lines.len().saturating_sub(10)..];
        last.iter().map(|line| format!("\n    {line}")).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A process that was just killed may still write there.
        let gone = wait::until("the folder to go", Duration::from_secs(2), || {
            match fs::remove_dir_all(&self.0) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(error.to_string()),
                _ => Ok(()),
            }
        });
        drop(gone);
        // This fails, as it should, while another session has its folder there.
        drop(fs::remove_dir(all_folders()));
    }
}
