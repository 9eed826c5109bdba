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
  let actions: { [name: string]: jest.Mock };

  beforeEach(() => {
    error = jest.spyOn(Notification, 'error').mockReturnValue('');
    model.happened = new Signal(model);
    model.changed = new Signal(model);
    told = [];
    actions = {
      moreFor: jest.fn(() => 2 ** 31),
      resizeOrMove: jest.fn().mockResolvedValue(true),
      startAgain: jest.fn().mockResolvedValue(undefined),
      showProblem: jest.fn()
    };
    notifier = new Notifier({
      model: model as unknown as ElasticModel,
      actions: actions as unknown as ElasticActions,
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
    expect(labels()).toEqual(['Raise to 2 GiB', 'Other size']);
  });

  it('raises the memory by one click, and says that it did', async () => {
    const success = jest.spyOn(Notification, 'success').mockReturnValue('');
    const kernel = makeKernel({ reason: 'OutOfMemory', message: 'Limit 1 GiB.' });
    model.happened.emit({ kind: 'out-of-memory', kernel });
    error.mock.calls[0][1].actions[0].callback();
    await new Promise(resolve => setTimeout(resolve));
    expect(actions.resizeOrMove).toHaveBeenCalledWith('k1', { memory: '2Gi' });
    expect(success.mock.calls[0][0]).toContain('It has 2 GiB now.');
    success.mockRestore();
  });

  it('starts again, with more, what did not come back', () => {
    const kernel = makeKernel({ phase: 'Failed', reason: 'OutOfMemory' });
    model.happened.emit({ kind: 'failed', kernel });
    expect(labels()).toEqual(['Start with 2 GiB', 'Start a new one']);
    error.mock.calls[0][1].actions[0].callback();
    expect(actions.startAgain).toHaveBeenCalledWith(kernel, { memory: '2Gi' });
  });

  it('tells of a kernel whose node is lost, and starts it again by one click', () => {
    const kernel = makeKernel({
      phase: 'Failed',
      reason: 'NodeLost',
      message: 'Lost.'
    });
    model.happened.emit({ kind: 'failed', kernel });
    expect(labels()).toEqual(['Start again', 'Start a new one']);
    error.mock.calls[0][1].actions[0].callback();
    expect(actions.startAgain).toHaveBeenCalledWith(kernel);
  });

  it('tells of an idle end without alarm', () => {
    const warning = jest.spyOn(Notification, 'warning').mockReturnValue('');
    const kernel = makeKernel({
      phase: 'Stopped',
      reason: 'Idle',
      message: 'Was idle.'
    });
    model.happened.emit({ kind: 'ended', kernel });
    expect(warning.mock.calls[0][0]).toBe('demo.ipynb: Was idle.');
    expect(error).not.toHaveBeenCalled();
    warning.mockRestore();
  });

  it('explains five seconds of silence, until there is news', async () => {
    const kernel = makeKernel({ phase: 'Starting' });
    const start = {
      steps: [{ time: 1, name: 'image-pulling', message: 'Pulling.' }],
      obstacle: null
    };
    Object.assign(model, { kernel: () => kernel, startOf: () => start });
    const emit = jest.spyOn(Notification, 'emit').mockReturnValue('n1');
    const update = jest.spyOn(Notification, 'update').mockReturnValue(true);
    jest.useFakeTimers();
    model.happened.emit({ kind: 'starting', kernel });
    await jest.advanceTimersByTimeAsync(1600);
    expect(update).not.toHaveBeenCalled();
    await jest.advanceTimersByTimeAsync(5000);
    expect(update.mock.calls[0][0].message).toContain('still starts');
    expect(update.mock.calls[0][0].message).toContain('image');
    start.steps.push({ time: 9, name: 'started', message: 'It runs.' });
    model.changed.emit();
    expect(update.mock.calls[1][0].message).toBe('Starting "demo.ipynb": It runs.');
    jest.useRealTimers();
    emit.mockRestore();
    update.mockRestore();
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
    expect(labels()).toEqual(['Start again', 'Start a new one']);
  });
});
