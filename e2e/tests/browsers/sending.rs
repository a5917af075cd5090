//! Everything that `send` takes arrives whole and in order in mux mode.

use serde_json::json;
use tabmux_e2e::{context::Context, runner::Test, wait::equal};

use crate::steps::{Outcome, open_echo};

pub(crate) const TESTS: &[Test] = &[
    Test::new("mux mode: texts, binaries and Blobs arrive in order and whole", every_kind),
    Test::new("mux mode: messages of a megabyte arrive whole", large),
    Test::new("mux mode: a flood waits for credit, and a socket beside it does not", flood),
    Test::new("mux mode: bytes and Blobs of an iframe arrive", other_realm),
    Test::new("mux mode: binaryType chooses Blob or ArrayBuffer", binary_type),
];

fn every_kind(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tab = context.tab()?;
    open_echo(context, &server, &tab, "echo")?;
    let send = "(() => {
        const socket = T.get('echo');
        socket.send('first');
        const reused = new Uint8Array([1, 2, 3]);
        socket.send(reused.buffer);
        reused.fill(9);
        socket.send(new Uint8Array([0, 4, 5, 6, 0]).subarray(1, 4));
        socket.send(new DataView(new Uint8Array([7, 8]).buffer, 1));
        socket.send(new Blob(['blob']));
        socket.send('after the blob');
        socket.send(new Blob([]));
        socket.send('');
        socket.send(new ArrayBuffer(0));
        socket.send(42);
        socket.send('äöü €😀');
        socket.send('last');
    })()";
    context.run(&tab, in_page(send))?;
    let wanted = json!([
        "first",
        "ArrayBuffer [1 2 3]",
        "ArrayBuffer [4 5 6]",
        "ArrayBuffer [8]",
        "ArrayBuffer [98 108 111 98]",
        "after the blob",
        "ArrayBuffer []",
        "",
        "ArrayBuffer []",
        "42",
        "äöü €😀",
        "last",
    ]);
    equal("messages", context.run(&tab, "await T.messages('echo', 12)")?, wanted)?;
    Ok(())
}

fn large(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tab = context.tab()?;
    open_echo(context, &server, &tab, "echo")?;
    // One at a time: what waits to be written to one link is limited to about as much.
    let messages = [
        "'tab'.repeat(333_333) + 'x'",
        "new Uint8Array(1_000_000).map((_, index) => index * 31 % 251)",
        "new Blob([new Uint8Array(1_000_000).fill(7)])",
        "'after'",
    ];
    for (index, message) in messages.iter().enumerate() {
        let send = format!(
            "(async () => {{
                const message = {message};
                T.get('echo').send(message);
                return T.describe(message instanceof Blob ? await message.arrayBuffer()
                    : message.buffer ?? message);
            }})()"
        );
        let wanted = context.run(&tab, in_page(&send))?;
        let received = format!("(await T.messages('echo', {}))[{index}]", index + 1);
        equal("message", context.run(&tab, received)?, wanted)?;
    }
    Ok(())
}

/// More than all credit, lanes and queues there are: it has to wait in the page, and to go on.
fn flood(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tab = context.tab()?;
    open_echo(context, &server, &tab, "echo")?;
    open_echo(context, &server, &tab, "beside")?;
    let send = "(async () => {
        const [socket, beside] = ['echo', 'beside'].map(T.get);
        let back = 0;
        let wrong = 0;
        const all = new Promise((resolve) => {
            socket.addEventListener('message', ({ data }) => {
                wrong += data.length !== 50_000 || Number.parseInt(data, 10) !== back;
                back += 1;
                if (back === 200) resolve();
            });
        });
        for (let n = 0; n < 200; n += 1) socket.send(`${n}`.padEnd(50_000));
        const waits = socket.bufferedAmount > 9_000_000;
        const answer = new Promise((resolve) => {
            beside.addEventListener('message', () => resolve(back), { once: true });
        });
        beside.send('x');
        const between = await answer;
        await all;
        return { waits, first: between < 100, wrong, left: socket.bufferedAmount };
    })()";
    let wanted = json!({ "waits": true, "first": true, "wrong": 0, "left": 0 });
    equal("the flood", context.run(&tab, format!("await {}", in_page(send)))?, wanted)?;
    Ok(())
}

fn binary_type(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tab = context.tab()?;
    open_echo(context, &server, &tab, "echo")?;
    let send = "(() => {
        T.get('echo').binaryType = 'blob';
        T.get('echo').send(new Uint8Array([1, 2, 3]));
    })()";
    context.run(&tab, send)?;
    equal("messages", context.run(&tab, "await T.messages('echo')")?, json!(["Blob of 3"]))?;
    context.run(&tab, "T.get('echo').binaryType = 'arraybuffer'")?;
    context.run(&tab, "T.get('echo').send(new Uint8Array([4]))")?;
    let wanted = json!(["Blob of 3", "ArrayBuffer [4]"]);
    equal("messages", context.run(&tab, "await T.messages('echo', 2)")?, wanted)?;
    Ok(())
}

fn other_realm(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tab = context.tab()?;
    open_echo(context, &server, &tab, "echo")?;
    let send = "(() => {
        const frame = document.body.appendChild(document.createElement('iframe'));
        const { Uint8Array, Blob } = frame.contentWindow;
        T.get('echo').send(new Uint8Array([1, 2]).buffer);
        T.get('echo').send(new Uint8Array([3, 4]));
        T.get('echo').send(new Blob(['5']));
    })()";
    context.run(&tab, in_page(send))?;
    let wanted = json!(["ArrayBuffer [1 2]", "ArrayBuffer [3 4]", "ArrayBuffer [53]"]);
    equal("messages", context.run(&tab, "await T.messages('echo', 3)")?, wanted)?;
    Ok(())
}

/// Marionette runs scripts in a world of its own, with classes of its own; these make their bytes
/// in the page's.
fn in_page(script: &str) -> String {
    format!("T.run({})", json!(script))
}
