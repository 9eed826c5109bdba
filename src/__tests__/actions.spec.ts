import { CommandRegistry } from '@lumino/commands';
import { ServiceManager } from '@jupyterlab/services';
import { ElasticActions } from '../actions';
import { CurrentDocument } from '../current';
import { ElasticModel } from '../model';
import { Ran } from '../ran';
import { ElasticProblem } from '../request';
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
    while (!look()?.querySelector('.jp-Elastic-question')) {
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

describe('stopping several kernels and starting again', () => {
  let api: FakeApi;
  let model: ElasticModel;
  let actions: ElasticActions;
  let changed: unknown[];
  let executed: unknown[];
  let contexts: object[];

  beforeEach(async () => {
    api = new FakeApi();
    ['k1', 'k2', 'k3'].forEach(id => api.put(makeKernel({ kernel_id: id, name: id })));
    model = new ElasticModel({ api, standby: 'never' });
    await model.open();
    changed = [];
    executed = [];
    contexts = [];
    const commands = new CommandRegistry();
    commands.addCommand('docmanager:open', { execute: args => executed.push(args) });
    actions = new ElasticActions({
      model,
      current: {
        sessionsOf: () => [],
        sessionsFor: () => contexts,
        notebooksOf: () => []
      } as unknown as CurrentDocument,
      commands,
      serviceManager: {} as ServiceManager.IManager
    });
  });

  afterEach(() => model.dispose());

  it('stops those that can be, after asking once, and says what could not', async () => {
    const failure = new ElasticProblem({ reason: 'ApiUnreachable', message: 'No.' });
    api.failures.set('stop', failure);
    const stopped = actions.stopMany(['k1', 'k2', 'gone']).catch(error => error);
    let dialog = document.querySelector('.jp-Dialog');
    while (!dialog?.textContent?.includes('Stop 2 kernels?')) {
      await new Promise(resolve => setTimeout(resolve, 5));
      dialog = document.querySelector('.jp-Dialog');
    }
    expect(dialog.textContent).toContain('"k1", "k2"');
    dialog.querySelector<HTMLElement>('.jp-mod-warn')!.click();
    expect(await stopped).toBe(failure);
    expect([...api.store.keys()]).toEqual(['k1', 'k3']);
  });

  async function startAgain(): Promise<void> {
    const again = actions.startAgain(model.kernel('k1')!, { memory: '2Gi' });
    await new Promise(resolve => setTimeout(resolve, 5));
    const started = model.kernels.find(one => one.phase === 'Starting')!;
    api.put({ ...started, phase: 'Running' });
    api.steps.delete(started.kernel_id);
    await again;
  }

  it('gives the notebooks of what ended a new kernel, and removes the old record', async () => {
    contexts = [{ changeKernel: (kernel: object) => changed.push(kernel) }];
    await startAgain();
    expect(changed).toEqual([{ id: 'k4' }]);
    expect(executed).toEqual([]);
    expect(api.store.has('k1')).toBe(false);
  });

  it('opens the notebook where it is not open', async () => {
    await startAgain();
    expect(executed).toEqual([{ path: 'work/demo.ipynb', kernel: { id: 'k4' } }]);
  });
});

describe('giving a notebook another kernel', () => {
  let api: FakeApi;
  let model: ElasticModel;
  let actions: ElasticActions;
  let hasWork: boolean;
  let changed: unknown[];

  beforeEach(async () => {
    api = new FakeApi();
    api.put(makeKernel());
    model = new ElasticModel({ api, standby: 'never' });
    await model.open();
    hasWork = true;
    changed = [];
    const context = {
      path: 'work/demo.ipynb',
      isDisposed: false,
      session: { kernel: { id: 'plain', status: 'busy' } },
      changeKernel: (kernel: object) => Promise.resolve(changed.push(kernel))
    };
    actions = new ElasticActions({
      model,
      current: {
        sessionContext: context,
        notebook: null,
        name: 'demo.ipynb'
      } as unknown as CurrentDocument,
      commands: new CommandRegistry(),
      serviceManager: {} as ServiceManager.IManager,
      ran: { hasWork: () => hasWork } as unknown as Ran
    });
  });

  afterEach(() => model.dispose());

  const question = async (): Promise<HTMLElement> => {
    for (;;) {
      const dialog = document.querySelector<HTMLElement>('.jp-Dialog');
      if (dialog?.querySelector('.jp-Elastic-question')) {
        return dialog;
      }
      await new Promise(resolve => setTimeout(resolve, 5));
    }
  };
  const press = async (label: string): Promise<string> => {
    const dialog = await question();
    const said = dialog.textContent ?? '';
    [...dialog.querySelectorAll('button')]
      .find(button => button.textContent === label)!
      .click();
    return said;
  };
  const run = async (): Promise<void> => {
    const started = model.kernels.find(one => one.phase === 'Starting')!;
    api.put({ ...started, phase: 'Running' });
    api.steps.delete(started.kernel_id);
    await model.refresh();
  };

  it('says what is lost before anything starts, and does not without consent', async () => {
    const begun = actions.start({ template: 'py' });
    const dialog = await question();
    await new Promise(resolve => setTimeout(resolve, 20));
    expect(document.activeElement?.textContent).toBe('Cancel');
    expect(dialog.textContent).toContain(
      '"demo.ipynb" gets another kernel, and the one that it is on ends.'
    );
    expect(dialog.textContent).toContain('All its variables are lost.');
    expect(dialog.textContent).toContain('The cell that runs now is ended.');
    await press('Cancel');
    expect(await begun).toBeNull();
    const attached = actions.attach(model.kernel('k1')!);
    await press('Cancel');
    await attached;
    expect(api.count('start')).toBe(0);
    expect(changed).toEqual([]);
  });

  it('does on consent, once', async () => {
    const asked = actions.start({ template: 'py' });
    await press('Change');
    const begun = await asked;
    await run();
    await begun!.attached;
    const attached = actions.attach(model.kernel('k1')!);
    await press('Change');
    await attached;
    expect(changed).toEqual([{ id: 'k2' }, { id: 'k1' }]);
  });

  it('asks nothing where nothing is lost, or it was said already', async () => {
    const told = await actions.start({ template: 'py' }, { hasConsent: true });
    await run();
    await told!.attached;
    hasWork = false;
    const begun = await actions.start({ template: 'py' });
    await run();
    await begun!.attached;
    await actions.attach(model.kernel('k1')!);
    expect(changed).toEqual([{ id: 'k2' }, { id: 'k3' }, { id: 'k1' }]);
  });

  it('asks about what was run while the other kernel started', async () => {
    hasWork = false;
    const begun = await actions.start({ template: 'py' });
    hasWork = true;
    await run();
    expect(await press('Cancel')).toContain('stays under My kernels');
    await begun!.attached;
    expect(changed).toEqual([]);
    expect(model.kernel('k2')).not.toBeNull();
  });
});
