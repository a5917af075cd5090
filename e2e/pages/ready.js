// Before any module runs, so that a test can wait for the module and sees why it failed.

window.ready = new Promise((resolve, reject) => {
  window.pageReady = resolve;
  window.pageFailed = reject;
});
window.addEventListener('error', ({ message, target }) => {
  pageFailed(new Error(message ?? `${target.src} did not load`));
}, true);
