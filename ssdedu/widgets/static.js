// An explorer on a page without a kernel: the state it was stored with, and nobody who answers.

export function staticModel(state) {
  const listeners = new Map();
  const of = (name) => listeners.get(name) ?? listeners.set(name, new Set()).get(name);
  return {
    get: (name) => state[name],
    set: (name, value) => {
      const changed = JSON.stringify(state[name]) !== JSON.stringify(value);
      state[name] = value;
      if (changed) [...of(`change:${name}`)].forEach((listener) => listener());
    },
    on: (name, listener) => void of(name).add(listener),
    off: (name, listener) => void of(name).delete(listener),
    save_changes: () => {},
  };
}

export async function mount(el, state) {
  const code = new Blob([state._esm], { type: "text/javascript" });
  const address = URL.createObjectURL(code);
  const { default: widget } = await import(address);
  URL.revokeObjectURL(address);
  el.model = staticModel({ ...state, alone: true });
  widget.render({ model: el.model, el });
}
