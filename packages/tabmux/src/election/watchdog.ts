// Notices that a hub is silent. Timers of hidden pages crawl, and stand still in frozen ones: what
// counts is that nothing came between two looks after the hub was asked.

/** How a hub looks to its page. */
export const enum Hub {
  /** It is not watched. */
  Unwatched,
  /** It was heard, `_heardAt`. */
  Heard,
  /** It was asked whether it is there, and has not been heard since. */
  Asked,
}

/** What is to be done about it. */
export const enum Alarm {
  None,
  /** Ask whether it is there. */
  Ask,
  /** It is gone. */
  Dead,
}

/** The watch over one hub. */
export interface Watchdog {
  _hub: Hub;
  _heardAt: number;
  /** How long the hub may be silent before it is asked. */
  readonly _patience: number;
}

/** A watchdog that sleeps. */
export const watchdog = (_patience: number): Watchdog =>
  ({ _hub: Hub.Unwatched, _heardAt: 0, _patience });

/** The hub is watched from now on, and has all of the watchdog's patience. */
export function watch(dog: Watchdog, now: number): void {
  dog._hub = Hub.Heard;
  dog._heardAt = now;
}

/** The hub is heard. */
export function hear(dog: Watchdog, now: number): void {
  if (dog._hub !== Hub.Unwatched) watch(dog, now);
}

/** The hub is watched no more. */
export function rest(dog: Watchdog): void {
  dog._hub = Hub.Unwatched;
}

/** It is time to look. A hub that is found dead has the patience of a new one. */
export function look(dog: Watchdog, now: number): Alarm {
  if (dog._hub === Hub.Unwatched || now - dog._heardAt < dog._patience) return Alarm.None;
  if (dog._hub === Hub.Asked) {
    watch(dog, now);
    return Alarm.Dead;
  }
  dog._hub = Hub.Asked;
  return Alarm.Ask;
}
