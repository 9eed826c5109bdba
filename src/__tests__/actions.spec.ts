import { CommandRegistry } from '@lumino/commands';
import { ServiceManager } from '@jupyterlab/services';
import { ElasticActions } from '../actions';
import { CurrentDocument } from '../current';
import { ElasticModel } from '../model';
import { FakeApi, makeKernel } from './fakes';

describe('moving a kernel to another pod', () => {
  let api: FakeApi;
  let model: ElasticModel;
  let actions: ElasticActions;
  let metadata: { [key: string]: unknown };

  beforeEach(async () => {
    api = new FakeApi();
    api.put(makeKernel({ execution_state: 'busy' }));
    model = new ElasticModel({ api, standby: 'never' });
    await model.open();
    metadata = {};
    const notebook = {
      model: {
        getMetadata: (key: string) => metadata[key],
        setMetadata: (key: string, value: unknown) => (metadata[key] = value)
      }
    };
    actions = new ElasticActions({
      model,
      current: { notebooksOf: () => [notebook] } as unknown as CurrentDocument,
      commands: new CommandRegistry(),
      serviceManager: {} as ServiceManager.IManager
    });
  });

  afterEach(() => model.dispose());

  const press = async (label: string): Promise<string> => {
    const look = (): HTMLElement | null => document.querySelector('.jp-Dialog');
    while (!look()?.querySelector('.jp-Elastic-move')) {
      await new Promise(resolve => setTimeout(resolve, 5));
    }
    const dialog = look()!;
    const said = dialog.textContent ?? '';
    [...dialog.querySelectorAll('button')]
      .find(button => button.textContent === label)!
      .click();
    return said;
  };

  const wish = { gpu: { kind: 'a100', count: 1 } };

  it('says what is lost and what the kernel will have, and does it on consent', async () => {
    const moved = actions.replace('k1', wish, 'The node is full.');
    const said = await press('Move');
    expect(said).toContain('The node is full.');
    expect(said).toContain(
      '"demo.ipynb" gets another pod with 1 CPU · 1 GiB · 1 × a100.'
    );
    expect(said).toContain('All its variables are lost.');
    expect(said).toContain('The cell that runs now is ended.');
    expect(await moved).toBe(true);
    expect(api.changes).toEqual([{ id: 'k1', resources: wish, replace: true }]);
    expect(metadata.elastic).toMatchObject({ resources: wish });
  });

  it('does nothing without consent, also by Enter', async () => {
    const moved = actions.replace('k1', wish);
    await press('Cancel');
    expect(await moved).toBe(false);
    const again = actions.replace('k1', wish);
    expect(await actions.replace('k1', wish)).toBe(false);
    while (document.activeElement?.textContent !== 'Cancel') {
      await new Promise(resolve => setTimeout(resolve, 5));
    }
    await press('Cancel');
    expect(await again).toBe(false);
    expect(api.changes).toEqual([]);
  });
});
