import { Dialog } from '@jupyterlab/apputils';
import { dismissDied } from '../labDialogs';

/** As Lab makes it, not in view yet. */
function makeDialog(path: string): Dialog<unknown> {
  return new Dialog({
    title: 'Kernel Restarting',
    body: `The kernel for ${path} appears to have died. It will restart automatically.`,
    buttons: [Dialog.okButton()]
  });
}

describe('dismissDied', () => {
  it("ends Lab's dialog about that notebook before it is seen, and no other", async () => {
    const other = makeDialog('other.ipynb');
    const dialog = makeDialog('demo.ipynb');
    const shown = dialog.launch();
    expect(dismissDied('demo.ipynb', null)).toBe(true);
    await expect(shown).resolves.toMatchObject({ button: { accept: false } });
    expect(dialog.isDisposed).toBe(true);
    expect(document.querySelector('.jp-Dialog')).toBeNull();
    expect(other.isDisposed).toBe(false);
    expect(dismissDied('demo.ipynb', null)).toBe(false);
    other.dispose();
  });
});
