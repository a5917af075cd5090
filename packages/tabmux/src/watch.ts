// Binds the watchdog to the timers of a page. A hidden page's timers crawl if each is set by the
// one before: so they are set when the hub is heard.

import { Alarm, Hub, hear, look, rest, watch, watchdog } from './election/watchdog.js';

/** How long a hub that was asked has for its answer. */
const CHECK_MS = 2500;

/** So much later than the last time a timer is set anew. */
const REARM_MS = 1000;

/** A watch over a hub. */
export interface Watch {
  _isOn(): boolean;
  _heard(): void;
  _start(): void;
  _stop(): void;
}

/** Asks a hub that is silent, and tells when it is dead. */
export function watchHub(patience: number, ask: () => void, dead: () => void): Watch {
  const dog = watchdog(patience);
  let timer: ReturnType<typeof setTimeout> | undefined;
  let armedAt = -Infinity;

  const arm = (wait: number): void => {
    clearTimeout(timer);
    armedAt = performance.now();
    timer = setTimeout(wake, wait);
  };

  const wake = (): void => {
    const now = performance.now();
    const alarm = look(dog, now);
    if (dog._hub === Hub.Unwatched) return;
    // It may have been heard since the timer was set.
    arm(alarm === Alarm.None ? Math.max(1, dog._heardAt + patience - now)
      : alarm === Alarm.Ask ? CHECK_MS : patience);
    if (alarm === Alarm.Ask) ask();
    else if (alarm === Alarm.Dead) dead();
  };

  return {
    _isOn: () => dog._hub !== Hub.Unwatched,
    _heard() {
      const now = performance.now();
      const wasAsked = dog._hub === Hub.Asked;
      hear(dog, now);
      if (dog._hub && (wasAsked || now - armedAt >= REARM_MS)) arm(patience);
    },
    _start() {
      watch(dog, performance.now());
      arm(patience);
    },
    _stop() {
      clearTimeout(timer);
      rest(dog);
    },
  };
}
