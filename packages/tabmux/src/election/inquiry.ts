// A hub that waits for the lock of its link asks who holds it.

/** How long the holder may take to say that it is there. */
export const ANSWER_MS = 5000;

/** How long after its first answer the holder is asked again: one that is leaving may answer. */
export const AGAIN_MS = 250;

/** What a hub knows of the holder. */
export const enum Inquiry {
  /** Nothing is to be known. */
  Over,
  /** It was asked, `_since`. */
  Asked,
  /** It has answered, `_since`. */
  Answered,
}

/** What is to be done. */
export const enum Order {
  None,
  /** Ask who holds the lock. */
  Ask,
  /** Rob the holder, which is silent. */
  Rob,
  /** A hub of this build has the link, and is there. */
  Move,
  /**
   * A hub of another build has the link. It is not to be waited for: it lives as long as its last
   * tab.
   */
  Share,
}

/** One hub that may ask. */
export interface Asker {
  _inquiry: Inquiry;
  _since: number;
  /** How often the holder has answered. */
  _answers: number;
}

/** A hub that has not asked. */
export const asker = (): Asker => ({ _inquiry: Inquiry.Over, _since: 0, _answers: 0 });

/** The lock is waited for. */
export function ask(it: Asker, now: number): Order {
  it._inquiry = Inquiry.Asked;
  it._since = now;
  return Order.Ask;
}

/** The lock is held, or wanted no more. */
export function stop(it: Asker): void {
  it._inquiry = Inquiry.Over;
}

/** The holder has answered, asked by this hub or by another. */
export function answer(it: Asker, isOfThisBuild: boolean, now: number): Order {
  if (!isOfThisBuild) {
    stop(it);
    return Order.Share;
  }
  it._inquiry = Inquiry.Answered;
  it._since = now;
  // A holder that is just leaving answers once.
  return (it._answers += 1) > 1 ? Order.Move : Order.None;
}

/** How long to wait for `wake`. */
export const waits = (it: Asker): number =>
  it._inquiry === Inquiry.Answered && it._answers < 2 ? AGAIN_MS : ANSWER_MS;

/** So much time as `waits` says has passed. */
export function wake(it: Asker, now: number): Order {
  if (it._inquiry === Inquiry.Over) return Order.None;
  // After a sleep nobody has had the time to answer.
  if (it._inquiry === Inquiry.Asked && now - it._since < 2 * ANSWER_MS) return Order.Rob;
  return ask(it, now);
}
