import { ElasticModel } from '../model';
import { ElasticProblem, IKernel } from '../request';
import { FakeApi, FakeEvents, makeKernel } from './fakes';

describe('a resize', () => {
  let api: FakeApi;
  let events: FakeEvents;
  let model: ElasticModel;
  let answer: () => void;

  const settle = (): Promise<void> => jest.advanceTimersByTimeAsync(0);

  beforeEach(async () => {
    jest.useFakeTimers();
    api = new FakeApi();
    events = new FakeEvents();
    model = new ElasticModel({ api, events: events.manager, standby: 'never' });
    api.put(makeKernel());
    void model.open();
    await settle();
    // As the server does: PATCH answers when all is over.
    api.answering = new Promise(resolve => (answer = resolve));
  });

  afterEach(() => {
    model.dispose();
    jest.useRealTimers();
  });

  const waiting = makeKernel({
    resize: { state: 'InProgress', message: 'The node has no room now.', time: 5 }
  });
  const unanswered = (): ElasticProblem =>
    new ElasticProblem({ reason: 'Error', message: 'Gateway timeout.', status: 504 });

  it('tells what it waits for, long before the answer comes', async () => {
    const resized = model.resize('k1', { memory: '4Gi' });
    await settle();
    expect(model.resizeOf('k1')).toMatchObject({ state: 'applying', message: '' });
    events.sendKernel(api.put(waiting));
    await settle();
    expect(model.resizeOf('k1')).toMatchObject({
      state: 'applying',
      message: 'The node has no room now.',
      wish: { memory: '4Gi' }
    });
    answer();
    await expect(resized).resolves.toMatchObject({ resources: { memory: '4Gi' } });
    expect(model.resizeOf('k1')).toMatchObject({ state: 'done', message: '' });
  });

  it('tells that the variables were lost before, after out of memory', async () => {
    events.sendKernel(api.put(makeKernel({ reason: 'OutOfMemory', restarts: 1 })));
    await settle();
    const resized = model.resize('k1', { memory: '4Gi' });
    answer();
    await resized;
    expect(model.resizeOf('k1')).toMatchObject({ state: 'done', ranOut: true });
  });

  it('tells so even if no event comes', async () => {
    void model.resize('k1', { memory: '4Gi' });
    await settle();
    api.put(waiting);
    await jest.advanceTimersByTimeAsync(2500);
    expect(model.resizeOf('k1')?.message).toBe('The node has no room now.');
    answer();
    await settle();
  });

  it('goes on when a proxy has no patience, and ends as the record does', async () => {
    api.failures.set('change', unanswered());
    const resized = model.resize('k1', { memory: '4Gi' });
    api.put(waiting);
    answer();
    await settle();
    expect(model.resizeOf('k1')?.state).toBe('applying');
    const refused: IKernel = makeKernel({
      resize: { state: 'Refused', reason: 'NoNodeFits', message: 'No room.', time: 15 }
    });
    const outcome = expect(resized).rejects.toMatchObject({ reason: 'NoNodeFits' });
    events.sendKernel(api.put(refused));
    await outcome;
    expect(model.resizeOf('k1')).toMatchObject({
      state: 'refused',
      message: 'No room.'
    });
  });

  it('has failed when nobody answers and the record knows nothing of it', async () => {
    api.failures.set('change', unanswered());
    answer();
    await expect(model.resize('k1', { memory: '4Gi' })).rejects.toMatchObject({
      message: 'Gateway timeout.'
    });
    expect(model.resizeOf('k1')?.state).toBe('refused');
  });

  it('by another pod is followed step by step, as a move and not as a start', async () => {
    const told: string[] = [];
    model.happened.connect((_, { kind }) => told.push(kind));
    const moved = model.replace('k1', { memory: '4Gi' });
    await settle();
    api.steps.set('k1', {
      phase: 'Moving',
      done: false,
      steps: [{ time: 1, name: 'blocked', message: 'No node has room.' }]
    });
    events.sendKernel(api.put(makeKernel({ phase: 'Moving' })));
    await jest.advanceTimersByTimeAsync(1000);
    expect(model.resizeOf('k1')).toMatchObject({ state: 'applying', replaces: true });
    expect(model.startOf('k1')?.obstacle?.message).toBe('No node has room.');
    api.steps.set('k1', { phase: 'Running', done: true, steps: [] });
    api.put(makeKernel({ restarts: 1 }));
    answer();
    await expect(moved).resolves.toMatchObject({ resources: { memory: '4Gi' } });
    await jest.advanceTimersByTimeAsync(1000);
    expect(api.changes).toEqual([
      { id: 'k1', resources: { memory: '4Gi' }, replace: true }
    ]);
    expect(model.resizeOf('k1')).toMatchObject({ state: 'done', replaces: true });
    expect(model.startOf('k1')).toBeNull();
    expect(told).toEqual([]);
  });

  it('by another pod ends with the reason if there is no such pod', async () => {
    api.failures.set('change', unanswered());
    const outcome = expect(
      model.replace('k1', { memory: '4Gi' })
    ).rejects.toMatchObject({
      reason: 'ImageNotFound',
      message: 'There is no image x.'
    });
    api.steps.set('k1', { phase: 'Moving', done: false, steps: [] });
    api.put(makeKernel({ phase: 'Moving' }));
    answer();
    await settle();
    const failed = makeKernel({
      phase: 'Failed',
      reason: 'ImageNotFound',
      message: 'There is no image x.'
    });
    api.steps.set('k1', { phase: 'Failed', done: true, steps: [] });
    events.sendKernel(api.put(failed));
    await outcome;
    await settle();
    expect(model.startOf('k1')).toBeNull();
    // It can be moved again, and is followed again.
    api.steps.set('k1', { phase: 'Moving', done: false, steps: [] });
    events.sendKernel(api.put(makeKernel({ phase: 'Moving' })));
    await settle();
    expect(model.startOf('k1')?.isDone).toBe(false);
  });

  it('that nobody asked for here is told while it leaves a kernel with less', async () => {
    const less = makeKernel({
      resources: { cpu: '1', memory: '4Gi' },
      actual: { cpu: '1', memory: '1Gi' },
      resize: { state: 'Refused', reason: 'NoNodeFits', message: 'No room.' }
    });
    events.sendKernel(api.put(less));
    await settle();
    expect(model.resizeOf('k1')).toMatchObject({
      state: 'refused',
      reason: 'NoNodeFits',
      wish: { memory: '4Gi' }
    });
    events.sendKernel(api.put({ ...less, actual: less.resources }));
    await settle();
    expect(model.resizeOf('k1')).toBeNull();
  });
});
