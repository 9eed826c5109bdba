import { Notification } from '@jupyterlab/apputils';
import { nullTranslator } from '@jupyterlab/translation';
import { Signal } from '@lumino/signaling';
import { ElasticActions } from '../actions';
import { IHappening } from '../happenings';
import { ElasticModel } from '../model';
import { Notifier } from '../notifier';
import { makeKernel } from './fakes';

describe('Notifier', () => {
  const model = {} as {
    happened: Signal<object, IHappening>;
    changed: Signal<object, void>;
  };
  let error: jest.SpyInstance;
  let notifier: Notifier;
  let told: string[];

  beforeEach(() => {
    error = jest.spyOn(Notification, 'error').mockReturnValue('');
    model.happened = new Signal(model);
    model.changed = new Signal(model);
    told = [];
    notifier = new Notifier({
      model: model as unknown as ElasticModel,
      actions: { canRestart: () => true } as unknown as ElasticActions,
      trans: nullTranslator.load('jupyter_elastic'),
      openPanel: () => undefined,
      isTold: id => told.includes(id)
    });
  });

  afterEach(() => {
    notifier.dispose();
    error.mockRestore();
  });

  const labels = (): string[] =>
    error.mock.calls[0][1].actions.map((action: { label: string }) => action.label);

  it('offers more memory, and no restart, for a kernel that runs again', () => {
    const kernel = makeKernel({ reason: 'OutOfMemory', message: 'Limit 1 GiB.' });
    model.happened.emit({ kind: 'out-of-memory', kernel });
    expect(error.mock.calls[0][0]).toBe('demo.ipynb: Limit 1 GiB.');
    expect(labels()).toEqual(['Raise memory']);
  });

  it('warns of what a start waits for, in place of its steps', async () => {
    const kernel = makeKernel({ phase: 'Starting' });
    const start = {
      steps: [{ time: 1, name: 'created', message: 'Made.' }],
      obstacle: null as object | null
    };
    Object.assign(model, { kernel: () => kernel, startOf: () => start });
    const emit = jest.spyOn(Notification, 'emit').mockReturnValue('n1');
    const update = jest.spyOn(Notification, 'update').mockReturnValue(true);
    jest.useFakeTimers();
    model.happened.emit({ kind: 'starting', kernel });
    await jest.advanceTimersByTimeAsync(2000);
    jest.useRealTimers();
    expect(emit.mock.calls[0].slice(0, 2)).toEqual([
      'Starting "demo.ipynb": Made.',
      'in-progress'
    ]);
    const message = `0 of 3 nodes have room. ${'Ask for less. '.repeat(20)}`;
    start.obstacle = { time: 2, name: 'blocked', message };
    model.changed.emit();
    expect(update.mock.calls[0][0]).toMatchObject({ id: 'n1', type: 'warning' });
    const text = update.mock.calls[0][0].message as string;
    expect(text).toMatch(/^"demo.ipynb" waits: 0 of 3 nodes have room\./);
    expect(text.length).toBeLessThanOrEqual(140);
    start.obstacle = null;
    model.changed.emit();
    expect(update.mock.calls[1][0]).toMatchObject({ type: 'in-progress' });
    emit.mockRestore();
    update.mockRestore();
  });

  it('is silent of a failed start that the form shows', () => {
    const kernel = makeKernel({ phase: 'Failed', message: 'Bad.' });
    told = ['k1'];
    model.happened.emit({ kind: 'start-failed', kernel });
    expect(error).not.toHaveBeenCalled();
    told = [];
    model.happened.emit({ kind: 'start-failed', kernel });
    expect(labels()).toEqual(['Start a new one']);
  });
});
