import { Notification } from '@jupyterlab/apputils';
import { nullTranslator } from '@jupyterlab/translation';
import { Signal } from '@lumino/signaling';
import { ElasticActions } from '../actions';
import { IHappening } from '../happenings';
import { ElasticModel } from '../model';
import { Notifier } from '../notifier';
import { IKernel } from '../request';
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

  it('takes back that a kernel ran out of memory once that is over', () => {
    const dismiss = jest.spyOn(Notification, 'dismiss').mockReturnValue(undefined);
    error.mockReturnValue('n1');
    const told = makeKernel({ reason: 'OutOfMemory', message: 'Limit 1 GiB.' });
    let kernel: IKernel | null = told;
    Object.assign(model, { kernel: () => kernel });
    model.happened.emit({ kind: 'out-of-memory', kernel: told });
    kernel = { ...told, execution_state: 'busy' };
    model.changed.emit();
    expect(dismiss).not.toHaveBeenCalled();
    // Raised in the panel: the server takes the reason away.
    kernel = { ...told, reason: '', message: '' };
    model.changed.emit();
    model.changed.emit();
    expect(dismiss.mock.calls).toEqual([['n1']]);
    dismiss.mockRestore();
  });

  it('keeps a failure in view whose record has been cleared away', () => {
    const dismiss = jest.spyOn(Notification, 'dismiss').mockReturnValue(undefined);
    Object.assign(model, { kernel: () => null });
    const kernel = makeKernel({ phase: 'Failed', reason: 'NodeLost' });
    model.happened.emit({ kind: 'failed', kernel });
    model.changed.emit();
    expect(dismiss).not.toHaveBeenCalled();
    dismiss.mockRestore();
  });

  it('says of a kernel that was seen to come back why, or at least that', () => {
    jest.useFakeTimers();
    let resize: object | null = null;
    let kernel = makeKernel();
    Object.assign(model, { kernel: () => kernel, resizeOf: () => resize });
    expect(notifier.comeBack('k1')).toBe(true);
    kernel = makeKernel({ reason: 'Crashed', message: 'Signal 11.', restarts: 1 });
    model.happened.emit({ kind: 'came-back', kernel });
    jest.advanceTimersByTime(10000);
    expect(error.mock.calls.map(call => call[0])).toEqual(['demo.ipynb: Signal 11.']);

    error.mockClear();
    kernel = makeKernel({ restarts: 2 });
    model.changed.emit();
    notifier.comeBack('k1');
    jest.advanceTimersByTime(10000);
    expect(error.mock.calls[0][0]).toContain('its variables are lost');

    // Whoever moves a kernel has been told before.
    error.mockClear();
    resize = { replaces: true };
    kernel = makeKernel({ restarts: 3 });
    model.changed.emit();
    expect(notifier.comeBack('k1')).toBe(true);
    jest.advanceTimersByTime(10000);
    expect(error).not.toHaveBeenCalled();

    // Lab has the word where nothing is to be told, and of kernels that are not elastic.
    notifier.tellFailures = false;
    expect(notifier.comeBack('k1')).toBe(false);
    jest.useRealTimers();
  });

  it('says once that a kernel came back, also when its notice is gone soon', () => {
    jest.useFakeTimers();
    let kernel = makeKernel();
    Object.assign(model, { kernel: () => kernel, resizeOf: () => null });
    notifier.comeBack('k1');
    kernel = makeKernel({
      reason: 'OutOfMemory',
      message: 'Limit 1 GiB.',
      restarts: 1
    });
    model.happened.emit({ kind: 'out-of-memory', kernel });
    kernel = makeKernel({ restarts: 1 }); // raised at once
    model.changed.emit();
    jest.advanceTimersByTime(10000);
    expect(error.mock.calls.map(call => call[0])).toEqual(['demo.ipynb: Limit 1 GiB.']);
    jest.useRealTimers();
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
