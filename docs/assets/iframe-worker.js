/* A browser starts no worker for a page that was opened from disk; the search then runs in a hidden frame. */
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(address) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      this.ready = new Promise((resolve) => {
        const start = () => {
          document.body.append(frame);
          const inside = frame.contentWindow;
          inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
          const load = (script) => new Promise((loaded) => {
            const element = inside.document.createElement("script");
            element.src = script;
            element.onload = loaded;
            inside.document.body.append(element);
          });
          inside.importScripts = (...scripts) => scripts.reduce((before, one) => before.then(() => load(one)), Promise.resolve());
          load(address).then(() => resolve(inside));
        };
        if (document.body) start();
        else addEventListener("DOMContentLoaded", start);
      });
    }

    postMessage(data) {
      this.ready.then((inside) => inside.dispatchEvent(new MessageEvent("message", { data })));
    }
  };
}
