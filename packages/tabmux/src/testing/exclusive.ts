// A worker in mode `exclusive`: each socket has a connection of its own.

import { HubKind, PageKind } from '../protocol.js';
import type { HubMessage, PageMessage } from '../protocol.js';
import { TestHub, answer, copy } from './hub.js';
import type { HubEnd, Seat } from './hub.js';
import type { InnerSocket } from './server.js';

interface ExclusiveSeat extends Seat {
  /** The connection of each socket, or undefined while it is being dialled. */
  lines: Map<number, InnerSocket | undefined>;
  /** Number of messages with a place in the tab's lane that were posted to the tab. */
  count: number;
  /** The ends of sockets that ended while the page was in the back/forward cache. */
  late: HubMessage[];
  isKnown: boolean;
}

export class ExclusiveHub extends TestHub<ExclusiveSeat> {
  cut(): void {
    this.seats.forEach((seat) => this.#endAll(seat, 1006));
  }

  wake(): void {
    // A connection that broke is not dialled again.
  }

  restart(): void {
    this.cut();
  }

  protected newSeat(end: HubEnd): ExclusiveSeat {
    return { end, isThere: true, said: 0, lines: new Map(), count: 0, late: [], isKnown: false };
  }

  protected welcome(seat: ExclusiveSeat): void {
    seat.late.splice(0).forEach((message) => this.post(seat, message));
    this.post(seat, seat.isKnown ? [HubKind.Resume, this.id, seat.said, '']
      : [HubKind.Renew, this.id, 0, 1, '']);
    seat.isKnown = true;
  }

  protected said(seat: ExclusiveSeat, message: PageMessage): void {
    if (message[0] === PageKind.Open) {
      const [, , socket, url, protocols] = message;
      seat.lines.set(socket, undefined);
      this.world.clock.soon(() => this.travel(() => this.#dialled(seat, socket, url, protocols)));
    } else if (message[0] === PageKind.Send) {
      const [, n, socket, data] = message;
      const line = seat.lines.get(socket);
      const sent = copy(data);
      this.travel(() => line?.heard(sent));
      this.post(seat, [HubKind.Passed, this.id, socket, n]);
    } else if (message[0] === PageKind.Close) {
      const [, , socket, code, reason] = message;
      seat.lines.get(socket)?.ended(code || 1005, reason);
      this.#end(seat, socket, code || 1005, 1, reason);
    }
  }

  /**
   * The connections of a page in the back/forward cache close, because the worker may be frozen.
   */
  protected override parked(seat: ExclusiveSeat): void {
    this.#endAll(seat, 1001);
  }

  protected left(seat: ExclusiveSeat): void {
    seat.lines.forEach((line) => line?.ended(1001, ''));
    seat.lines.clear();
  }

  protected died(): void {
    for (const seat of this.seats.values()) {
      seat.lines.forEach((line) => line?.ended(1006, ''));
      Object.assign(seat, { lines: new Map(), late: [], isKnown: false, said: 0, count: 0 });
    }
  }

  protected subscribe(seat: ExclusiveSeat, number: number): void {
    const reason = 'tabmux: no topics in mode exclusive';
    this.post(seat, [HubKind.Unsubscribed, this.id, number, reason]);
  }

  protected unsubscribe(): void {
    // Mode exclusive has no topics.
  }

  protected logout(): void {
    // Mode exclusive has no session.
  }

  protected answered(): void {
    // In mode exclusive the page calls its functions itself.
  }

  #dialled(seat: ExclusiveSeat, socket: number, url: string, protocols: string[]): void {
    if (!seat.lines.has(socket)) return;
    const { server } = this.world;
    const refusal = this.world.isOnline() ? server.refuse({ socket: url })
      : 'the browser is offline';
    if (refusal !== undefined) {
      const text = `tabmux: the WebSocket to ${url} could not be opened (${refusal})`;
      this.#tell(seat, [HubKind.Error, this.id, socket, text]);
      return this.#end(seat, socket, 1006, 0, '');
    }
    seat.lines.set(socket, server.accept('exclusive', url, protocols, {
      deliver: (data) => this.travel(() => {
        if (!seat.isThere || !seat.lines.has(socket)) return;
        seat.count += 1;
        this.post(seat, [HubKind.Message, this.id, socket, seat.count, 0, copy(data)]);
      }),
      end: (code, reason) => this.travel(() => this.#end(seat, socket, code, 1, reason)),
    }));
    this.#tell(seat, [HubKind.Joined, this.id, socket, 0, answer(protocols)]);
  }

  #endAll(seat: ExclusiveSeat, code: number): void {
    for (const [socket, line] of [...seat.lines]) {
      line?.ended(code, '');
      this.#end(seat, socket, 1006, 0, '');
    }
  }

  #end(seat: ExclusiveSeat, socket: number, code: number, clean: 0 | 1, reason: string): void {
    if (!seat.lines.delete(socket)) return;
    this.#tell(seat, [HubKind.Ended, this.id, socket, code, clean, reason]);
  }

  #tell(seat: ExclusiveSeat, message: HubMessage): void {
    if (seat.isThere) this.post(seat, message);
    else seat.late.push(message);
  }
}
