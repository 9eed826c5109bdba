import { NotebookPanel } from '@jupyterlab/notebook';
import { Signal } from '@lumino/signaling';
import { LostCells } from '../lostCells';
import { ElasticModel } from '../model';
import { FakeApi, makeKernel } from './fakes';

class FakeFuture {
  isDisposed = false;
  dispose(): void {
    this.isDisposed = true;
  }
}

class FakeNotebook {
  isDisposed = false;
  readonly kernel = { id: 'k1', status: 'busy', connectionStatus: 'connected' };
  readonly sessionContext = {
    session: { kernel: this.kernel },
    connectionStatusChanged: new Signal<object, string>({}),
    statusChanged: new Signal<object, string>({})
  };
  readonly disposed = new Signal<object, void>({});
  readonly content: { widgets: object[] } = { widgets: [{}] };

  run(): FakeFuture {
    const future = new FakeFuture();
    this.content.widgets.push({ outputArea: { future } });
    return future;
  }

  connection(status: string): void {
    this.kernel.connectionStatus = status;
    if (status !== 'connected') {
      this.status('unknown');
    }
    this.sessionContext.connectionStatusChanged.emit(status);
  }

  status(status: string): void {
    this.kernel.status = status;
    this.sessionContext.statusChanged.emit(status);
  }
}

describe('LostCells', () => {
  let notebook: FakeNotebook;
  let api: FakeApi;
  let model: ElasticModel;
  let lost: number[];

  beforeEach(async () => {
    api = new FakeApi();
    api.put(makeKernel({ execution_state: 'idle' }));
    model = new ElasticModel({ api, standby: 'never' });
    await model.open();
    notebook = new FakeNotebook();
    lost = [];
    new LostCells({
      model,
      onLost: (_, count) => void lost.push(count),
      patience: 20
    }).watch(notebook as unknown as NotebookPanel);
  });

  afterEach(() => model.dispose());

  /** Long enough for all that could happen. */
  const settle = (): Promise<void> => new Promise(resolve => setTimeout(resolve, 100));
  const reconnect = (): void => {
    notebook.connection('connecting');
    notebook.connection('disconnected');
    notebook.connection('connected');
  };

  it('gives up a cell that ran when the server went, once the kernel is idle', async () => {
    const before = notebook.run();
    notebook.connection('connecting');
    const meanwhile = notebook.run();
    notebook.connection('disconnected');
    await settle();
    expect(before.isDisposed).toBe(false);
    // Lab hears nothing of a kernel that is idle already.
    notebook.connection('connected');
    await settle();
    expect(before.isDisposed).toBe(true);
    // It was sent to the new server, and will be answered.
    expect(meanwhile.isDisposed).toBe(false);
    expect(lost).toEqual([1]);
  });

  it('waits while the kernel works on, whatever the server said before', async () => {
    const cell = notebook.run();
    // The model does not know of it yet.
    api.put(makeKernel({ execution_state: 'busy' }));
    reconnect();
    await settle();
    expect(cell.isDisposed).toBe(false);
    notebook.status('busy');
    await settle();
    expect(lost).toEqual([]);
    // The end of the cell is heard, its answer is not.
    api.put(makeKernel({ execution_state: 'idle' }));
    notebook.status('idle');
    await settle();
    expect(cell.isDisposed).toBe(true);
    expect(lost).toEqual([1]);
  });

  it('takes a cell for ended that was heard to end', async () => {
    const cell = notebook.run();
    reconnect();
    notebook.status('busy');
    cell.dispose();
    notebook.status('idle');
    await settle();
    expect(lost).toEqual([]);
  });

  it('leaves cells alone that ran under one connection, and plain kernels', async () => {
    const cell = notebook.run();
    notebook.status('idle');
    await settle();
    notebook.kernel.id = 'plain';
    reconnect();
    notebook.status('idle');
    await settle();
    expect(cell.isDisposed).toBe(false);
    expect(lost).toEqual([]);
  });
});
