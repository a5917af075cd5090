// Binds the watchdog to the timers of a page.

import { Alarm, Hub, hear, look, rest, watch, watchdog } from './election/watchdog.js';

/** How often a page looks whether its hub is still there. */
const CHECK_MS = 2500;

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
  let timer: ReturnType<typeof setInterval> | undefined;
  return {
    _isOn: () => dog._hub !== Hub.Unwatched,
    _heard: () => hear(dog, performance.now()),
    _start() {
      watch(dog, performance.now());
      timer = setInterval(() => {
        const alarm = look(dog, performance.now());
        if (alarm === Alarm.Ask) ask();
        else if (alarm === Alarm.Dead) dead();
      }, CHECK_MS);
    },
    _stop() {
      clearInterval(timer);
      rest(dog);
    },
  };
}
