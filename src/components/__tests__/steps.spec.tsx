import { nullTranslator } from '@jupyterlab/translation';
import { act, render, screen, within } from '@testing-library/react';
import * as React from 'react';
import { FakeApi, makeKernel } from '../../__tests__/fakes';
import { IKernel, IStep, KernelPhase } from '../../request';
import { KernelStart } from '../../start';
import { KernelList } from '../kernelList';
import { stepText } from '../../stepText';
import { Steps } from '../steps';

const trans = nullTranslator.load('jupyter_elastic');

describe('Steps', () => {
  let api: FakeApi;
  let start: KernelStart;

  beforeEach(() => {
    jest.spyOn(Date, 'now').mockReturnValue(12_000);
    api = new FakeApi();
    const kernel = api.put(makeKernel({ phase: 'Starting' }));
    start = new KernelStart({ api, kernel, interval: 60000 });
  });

  afterEach(() => {
    start.dispose();
    jest.restoreAllMocks();
  });

  async function take(phase: KernelPhase, ...steps: [string, string][]): Promise<void> {
    const dated = steps.map(([name, message], time): IStep => ({
      time,
      name,
      message
    }));
    api.steps.set('k1', { phase, done: phase === 'Running', steps: dated });
    await act(() => start.refresh());
  }

  const lines = (): string[] =>
    screen.getAllByRole('listitem').map(one => one.textContent ?? '');

  it('has words for every step, should the server give none', () => {
    const names = 'scheduled node-coming image-pulling image-pulled started blocked';
    for (const name of names.split(' ')) {
      expect(stepText({ name, message: '' }, trans)).toMatch(/^[A-Z][a-z ]+$/);
    }
    expect(stepText({ name: 'whatever', message: '' }, trans)).toBe('whatever');
    expect(stepText({ name: 'blocked', message: 'No room.' }, trans)).toBe('No room.');
  });

  it('brings forward why the user waits, and only as long as it is so', async () => {
    const { rerender } = render(<Steps start={start} trans={trans} />);
    await take(
      'Starting',
      ['created', 'Made.'],
      ['blocked', '0 of 3 nodes have room.']
    );
    rerender(<Steps start={start} trans={trans} />);
    const note = screen.getByRole('note');
    expect(note.textContent).toBe('0 of 3 nodes have room.');
    expect(note.parentElement?.getAttribute('aria-live')).toBe('polite');
    expect(lines()).toEqual(['Made.0.0 s', 'Waiting…12 s']);

    await take(
      'Starting',
      ['created', 'Made.'],
      ['blocked', '0 of 3 nodes have room.'],
      ['scheduled', '']
    );
    rerender(<Steps start={start} trans={trans} />);
    expect(screen.queryByRole('note')).toBeNull();
    expect(lines()).toEqual([
      'Made.0.0 s',
      '0 of 3 nodes have room.1.0 s',
      'A node has room2.0 s',
      'Starting…12 s'
    ]);
    // What was in the way is not ticked off.
    const items = screen.getAllByRole('listitem');
    expect(items.map(one => one.querySelectorAll('svg').length)).toEqual([1, 0, 1, 0]);
  });

  it('can be shown without a way to cancel', async () => {
    await take('Moving');
    const { rerender } = render(<Steps start={start} trans={trans} />);
    expect(lines()).toEqual(['Moving…']);
    expect(screen.queryByRole('button')).toBeNull();
    const onCancel = jest.fn();
    rerender(<Steps start={start} trans={trans} onCancel={onCancel} />);
    screen.getByRole('button', { name: 'Cancel start' }).click();
    expect(onCancel).toHaveBeenCalled();
  });
});

describe('KernelList', () => {
  it('says of each kernel what it waits for', () => {
    const kernels = [
      makeKernel({ phase: 'Starting', name: 'slow' }),
      makeKernel({ kernel_id: 'k2', name: 'fine' })
    ];
    const obstacleOf = (kernel: IKernel): string =>
      kernel.kernel_id === 'k1' ? 'There is no image x.' : '';
    render(
      <KernelList
        kernels={kernels}
        currentId={null}
        obstacleOf={obstacleOf}
        trans={trans}
        canAttach={false}
        actions={{
          onOpen: jest.fn(),
          onAttach: jest.fn(),
          onStop: jest.fn(),
          onStopMany: jest.fn()
        }}
        renderResize={() => null}
      />
    );
    const [slow, fine] = screen.getAllByRole('listitem');
    expect(within(slow).getByRole('note').textContent).toBe('There is no image x.');
    expect(within(fine).queryByRole('note')).toBeNull();
  });
});
