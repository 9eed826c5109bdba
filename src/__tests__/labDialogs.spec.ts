import { Dialog, showErrorMessage } from '@jupyterlab/apputils';
import { dismissDied, saveAgain } from '../labDialogs';

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

describe('saveAgain', () => {
  it('saves what could not be saved, and takes away what was said of it', async () => {
    const say = (name: string): Promise<unknown> =>
      showErrorMessage(`File Save Error for ${name}`, 'Failed to fetch');
    const document = (localPath: string): { localPath: string; save: jest.Mock } => ({
      localPath,
      save: jest.fn(() => Promise.resolve())
    });
    const shown = say('demo.ipynb');
    const saved = document('work/demo.ipynb');
    const namesake = document('demo.ipynb');
    const fine = document('fine.ipynb');
    namesake.save.mockRejectedValue(new Error('Still away.'));
    await saveAgain([namesake, saved, fine], null);
    await shown;
    expect(saved.save).toHaveBeenCalledTimes(1);
    expect(namesake.save).toHaveBeenCalledTimes(1);
    expect(fine.save).not.toHaveBeenCalled();
    await saveAgain([saved], null);
    expect(saved.save).toHaveBeenCalledTimes(1);
  });
});
