//! Everything that `send` takes arrives whole and in order in mux mode.

use serde_json::json;
use tabmux_e2e::{context::Context, runner::Test, wait::equal};

use crate::steps::{Outcome, open_echo};

pub(crate) const TESTS: &[Test] = &[
    Test::new(
        "mux mode: texts, binaries and Blobs arrive in order and whole",
        every_kind,
    ),
    Test::new("mux mode: messages of a megabyte arrive whole", large),
    Test::new(
        "mux mode: binaryType chooses Blob or ArrayBuffer",
        binary_type,
    ),
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
    context.run(&tab, send)?;
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
    equal(
        "messages",
        context.run(&tab, "await T.messages('echo', 12)")?,
        wanted,
    )?;
    Ok(())
}

fn large(context: &mut Context<'_>) -> Outcome {
    let server = context.server()?;
    let tab = context.tab()?;
    open_echo(context, &server, &tab, "echo")?;
    let send = "(() => {
        const size = 1 << 20;
        const bytes = Uint8Array.from({ length: size }, (_, index) => index * 31 % 251);
        const text = 'tab'.repeat(size / 4) + 'mux';
        const sent = [text, bytes.buffer, 'after'];
        for (const data of sent) T.get('echo').send(data);
        T.get('echo').send(new Blob([bytes]));
        return [...sent, bytes.buffer].map(T.describe);
    })()";
    let wanted = context.run(&tab, send)?;
    equal(
        "messages",
        context.run(&tab, "await T.messages('echo', 4)")?,
        wanted,
    )?;
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
    equal(
        "messages",
        context.run(&tab, "await T.messages('echo')")?,
        json!(["Blob of 3"]),
    )?;
    context.run(&tab, "T.get('echo').binaryType = 'arraybuffer'")?;
    context.run(&tab, "T.get('echo').send(new Uint8Array([4]))")?;
    let wanted = json!(["Blob of 3", "ArrayBuffer [4]"]);
    equal(
        "messages",
        context.run(&tab, "await T.messages('echo', 2)")?,
        wanted,
    )?;
    Ok(())
}
