import { Remembered } from '../remembered';

class Store {
  readonly kept = new Map<string, unknown>();

  fetch(id: string): Promise<unknown> {
    return Promise.resolve(this.kept.get(id));
  }

  save(id: string, value: never): Promise<unknown> {
    this.kept.set(id, JSON.parse(JSON.stringify(value)));
    return Promise.resolve();
  }
}

describe('Remembered', () => {
  it('has on the next visit what was chosen and how long starts took', async () => {
    const store = new Store();
    const first = new Remembered(store);
    first.noteChoice('py', { memory: '2Gi' });
    [1, 9, 9, 9, 2, 3].forEach(one => first.noteStart('py', 'cold', one));
    const next = new Remembered(store);
    expect(next.template).toBe('');
    await next.load();
    expect(next.template).toBe('py');
    expect(next.wish('py')).toEqual({ memory: '2Gi' });
    expect(next.seconds('py', 'cold')).toBe(9);
    expect(next.seconds('py', 'warm')).toBeNull();
  });

  it('prefers what happened before the store had answered', async () => {
    const store = new Store();
    new Remembered(store).noteChoice('old', { memory: '1Gi' });
    const next = new Remembered(store);
    const loading = next.load();
    next.noteChoice('new', {});
    await loading;
    expect(next.template).toBe('new');
  });

  it('does without a store, and is not deceived by what others put there', async () => {
    await new Remembered().load();
    const store = new Store();
    store.kept.set('jupyter_elastic:remembered', ['what?']);
    const remembered = new Remembered(store);
    await remembered.load();
    expect(remembered.wish('py')).toBeNull();
  });
});
