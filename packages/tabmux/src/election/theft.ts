// Whoever finds the holder of a lock silent robs it. One thief at a time, over all tabs: who has
// the thieves' own lock may steal, and keeps that lock for a while, so that who was robbed by
// mistake, and who robbed, have time to speak up.

/** For so long nobody steals again. */
export const COOLDOWN_MS = 30_000;

/** What a thief is about. */
export const enum Thief {
  Idle,
  /** The thieves' lock is asked for. */
  Asking,
  /** This one has stolen, and keeps the thieves' lock until `_until`. */
  Cooling,
}

/** One who may have to steal. */
export interface Theft {
  _thief: Thief;
  _until: number;
}

/** One who has no reason to. */
export const theft = (): Theft => ({ _thief: Thief.Idle, _until: 0 });

/** The holder is silent. Whether to ask for the thieves' lock, without waiting for it. */
export function plan(it: Theft): boolean {
  if (it._thief !== Thief.Idle) return false;
  it._thief = Thief.Asking;
  return true;
}

/** The answer. Whether to steal: what was wanted may be had, or wanted no more, meanwhile. */
export function answered(it: Theft, isGranted: boolean, isWanted: boolean, now: number): boolean {
  const isOn = isGranted && isWanted;
  it._thief = isOn ? Thief.Cooling : Thief.Idle;
  it._until = now + COOLDOWN_MS;
  return isOn;
}

/** How long the thieves' lock is to be kept, 0 once it may be let go of. */
export function remaining(it: Theft, now: number): number {
  if (it._thief === Thief.Cooling && now < it._until) return it._until - now;
  it._thief = Thief.Idle;
  return 0;
}
