// The demo. One client tells how the link stands and what the server says to all tabs; three
// virtual sockets carry the numbers, the game and the notifications. All of it is one connection.

import { SharedWebSocket, connect } from '/tabmux/client.js';

/** An unread notification is read once its tab was looked at for so long. */
const READ_AFTER_MS = 3000;
/** A socket that the server closed is opened again after this, while the link works. */
const REOPEN_AFTER_MS = 2000;
/** More lines than this are not kept in a log, nor more tabs drawn. */
const LINES = 50;
const DRAWN = 60;

const $ = (id) => document.getElementById(id);
const show = (id, text) => {
  if ($(id).textContent !== String(text)) $(id).textContent = text;
};
const pick = (words) => words[Math.floor(Math.random() * words.length)];

const MOODS = ['Amber', 'Brave', 'Calm', 'Clever', 'Gentle', 'Happy', 'Lucky', 'Quiet', 'Swift'];
const ANIMALS = ['Badger', 'Curlew', 'Falcon', 'Heron', 'Lynx', 'Marten', 'Otter', 'Robin', 'Wren'];
const name = `${pick(MOODS)} ${pick(ANIMALS)}`;
show('tab-name', name);

const client = connect('/');

// The sockets. A socket is gone when the link breaks; once it works again there are new ones.

const sockets = new Map();

const keep = (path, onText) => {
  sockets.set(path, { onText });
  reopen();
};

const reopen = () => {
  if (client.status.state !== 'connected') return;
  for (const [path, entry] of sockets) {
    if (entry.socket) continue;
    const socket = (entry.socket = new SharedWebSocket(path, [], { mode: 'mux' }));
    socket.onmessage = ({ data }) => entry.onText(JSON.parse(data));
    socket.onopen = enable;
    socket.onclose = () => {
      entry.socket = undefined;
      enable();
      setTimeout(reopen, REOPEN_AFTER_MS);
    };
  }
};

const isOpen = (path) => sockets.get(path)?.socket?.readyState === SharedWebSocket.OPEN;
const send = (path, text) => isOpen(path) && sockets.get(path).socket.send(text);

const enable = () => {
  for (const [form, path] of [['game', '/demo/game'], ['notify', '/demo/notify']]) {
    // aria-disabled, not disabled: the keyboard keeps its place while the link is away.
    for (const button of $(form).querySelectorAll('button')) {
      button.setAttribute('aria-disabled', String(!isOpen(path)));
    }
  }
};

// How the link stands.

const STATES = {
  idle: 'idle',
  connecting: 'connecting',
  connected: 'connected',
  backoff: 'waiting to try again',
  closed: 'not connected',
};

const showStatus = () => {
  const { state, tier, hubId, tabs, reason } = client.status;
  $('pill').dataset.state = state;
  show('state', STATES[state]);
  show('tier', tier);
  show('hub-id', hubId);
  show('own-tabs', tabs || '–');
  $('alert').hidden = state !== 'closed';
  show('alert', state === 'closed' ? reason : '');
  document.body.dataset.state = state;
  enable();
  reopen();
};

client.on('status', showStatus);

// The numbers.

keep('/demo/stats', ({ tabs, links }) => {
  show('tabs', tabs);
  show('tabs-unit', tabs === 1 ? 'tab' : 'tabs');
  show('connections', links);
  show('connections-unit', links === 1 ? 'connection' : 'connections');
  show('saved', Math.max(0, tabs - links));
  draw(Math.min(tabs, DRAWN));
});

const draw = (count) => {
  const picture = $('picture');
  while (picture.childElementCount > count) picture.lastElementChild.remove();
  while (picture.childElementCount < count) {
    picture.append(Object.assign(document.createElement('i'), { className: 'tab' }));
  }
};

// The logs.

const log = (id, kind, ...parts) => {
  const line = document.createElement('li');
  line.className = kind;
  for (const [className, text] of parts) {
    line.append(Object.assign(document.createElement('span'), { className, textContent: text }));
  }
  $(id).prepend(line);
  while ($(id).childElementCount > LINES) $(id).lastElementChild.remove();
};

const onSubmit = (form, input, act) => {
  $(form).addEventListener('submit', (event) => {
    event.preventDefault();
    const text = $(input).value.trim();
    if (text !== '' && act(text)) $(input).value = '';
    $(input).focus();
  });
};

// The game.

const HINTS = { higher: '↑ higher', lower: '↓ lower' };

keep('/demo/game', ({ answer, guess, tries, message }) => {
  if (answer === 'right') {
    const count = tries === 1 ? 'the first try' : `${tries} tries`;
    log('game-log', 'won', ['value', guess], ['text', `That’s it! Found in ${count}.`]);
  } else if (answer === 'new') {
    $('game-log').replaceChildren();
    log('game-log', 'note', ['text', 'A new number. Guess!']);
  } else if (answer === 'error') {
    log('game-log', 'note', ['text', message]);
  } else {
    log('game-log', answer, ['value', guess], ['text', HINTS[answer]], ['aside', `try ${tries}`]);
  }
});

onSubmit('game', 'guess', (text) => send('/demo/game', `guess ${text}`) !== false);
$('game-new').addEventListener('click', () => {
  send('/demo/game', 'new');
  $('guess').focus();
});

// The notifications. The text starts with the name of the tab that sends it.

keep('/demo/notify', ({ message }) => log('notify-log', 'note', ['text', message]));

onSubmit('notify', 'text', (text) => send('/demo/notify', `${name}: ${text}`) !== false);

let unread = 0;
let reading;

client.on('message', ({ data }) => {
  const { kind, text } = JSON.parse(data);
  if (kind !== 'notification') return;
  const [, from = '', said = text] = /^([^:]{1,40}): (.*)$/s.exec(text) ?? [];
  const time = new Date().toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
  const who = from === name ? 'You' : from;
  log('notify-log', 'notification', ['value', who], ['text', said], ['aside', time]);
  unread += 1;
  showUnread();
  look();
});

const showUnread = () => {
  document.title = unread === 0 ? 'tabmux demo' : `(${unread}) tabmux demo`;
};

const look = () => {
  clearTimeout(reading);
  if (unread === 0 || document.hidden || !document.hasFocus()) return;
  reading = setTimeout(() => {
    unread = 0;
    showUnread();
  }, READ_AFTER_MS);
};

for (const type of ['focus', 'blur', 'pageshow']) window.addEventListener(type, look);
document.addEventListener('visibilitychange', look);

// More tabs. Browsers open one window a click, unless pop-ups are allowed.

const openTabs = (wanted) => {
  let opened = 0;
  for (let count = 0; count < wanted; count += 1) {
    const other = window.open(location.href, '_blank');
    if (!other) break;
    other.opener = null;
    opened += 1;
  }
  show('hint', opened === wanted
    ? `Opened ${opened === 1 ? 'one more tab' : `${opened} more tabs`}. Watch the numbers.`
    : `Your browser opened ${opened} of ${wanted}. Allow pop-ups for this page to open more at ` +
      'once, or open tabs yourself: it is the same.');
};

$('open-one').addEventListener('click', () => openTabs(1));
$('open-five').addEventListener('click', () => openTabs(5));

showStatus();
