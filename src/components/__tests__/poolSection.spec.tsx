import { nullTranslator } from '@jupyterlab/translation';
import { render, screen } from '@testing-library/react';
import * as React from 'react';
import { ICapacity, IStatus } from '../../request';
import { enforcementText, PoolSection } from '../poolSection';

const trans = nullTranslator.load('jupyter_elastic');

function show(capacity: ICapacity): string {
  const { container } = render(
    <PoolSection pool={null} capacity={capacity} status={null} trans={trans} />
  );
  return container.textContent ?? '';
}

describe('PoolSection', () => {
  it('shows what of the capacity is taken', () => {
    const text = show({
      cpu: { total: '8', used: '2', free: '6' },
      memory: { total: '16Gi', used: '0', free: '16Gi' },
      gpus: [{ kind: 'nvidia.com/gpu', total: 4, used: 1 }]
    });
    expect(text).toContain('CPU taken2 of 8');
    expect(text).toContain('Memory taken0 KiB of 16 GiB');
    expect(text).toContain('nvidia.com/gpu1 of 4');
    const bar = screen.getByRole('progressbar', { name: 'CPU taken' });
    expect(bar.getAttribute('aria-valuenow')).toBe('25');
    expect(screen.getAllByRole('progressbar')).toHaveLength(3);
  });

  it('says of how many cores it is that more may be had', () => {
    const text = show({
      cpu: { total: '8', used: '1100m', free: '6900m', cores: '2' },
      memory: { total: '16Gi', used: '0', free: '16Gi' },
      gpus: []
    });
    expect(text).toContain('CPU taken1.1 of 8 (2 cores, shared)');
  });

  it('shows just what is taken where nobody has set a limit', () => {
    const text = show({
      cpu: { total: null, used: '1500m', free: null },
      memory: { total: null, used: '0', free: null },
      gpus: []
    });
    expect(text).toContain('CPU taken1.5 CPU');
    expect(text).toContain('Memory taken0 KiB');
    expect(text).not.toMatch(/ of |left|NaN|null/);
    expect(screen.queryByRole('progressbar')).toBeNull();
  });

  it('may have a limit of one resource and none of the other', () => {
    const text = show({
      cpu: { total: '8', used: '2', free: '6' },
      memory: { total: null, used: '4Gi', free: null },
      gpus: []
    });
    expect(text).toContain('CPU taken2 of 8');
    expect(text).toContain('Memory taken4 GiB');
    expect(screen.getAllByRole('progressbar')).toHaveLength(1);
  });
});

describe('PoolSection, of the pool', () => {
  const row = {
    template: 'py',
    display_name: 'Python',
    target: 3,
    warm: 2,
    warming: 1,
    claimed: 4,
    reason: 'Mondays are busy.',
    starts: { warm: 9, cold: 3 }
  };

  it('says of each template what there is, how often it served, and why so many', () => {
    const pool = { controller: true, templates: [row] };
    render(<PoolSection pool={pool} capacity={null} status={null} trans={trans} />);
    const figures = screen.getAllByRole('cell').map(one => one.textContent);
    expect(figures.slice(0, 5)).toEqual(['2', '1', '3', '4', '75 %']);
    const why = screen.getByText('Why a target of 3');
    expect(why.tagName).toBe('SUMMARY');
    expect(why.parentElement?.textContent).toContain('Mondays are busy.');
  });

  it('claims no hit rate before the first start', () => {
    const starts = { warm: 0, cold: 0 };
    const pool = { controller: true, templates: [{ ...row, starts }] };
    render(<PoolSection pool={pool} capacity={null} status={null} trans={trans} />);
    expect(screen.getAllByRole('cell')[4].textContent).toBe('–');
  });
});

describe('enforcementText', () => {
  const of = (memory: string, cpu: string, note = ''): string =>
    enforcementText({ enforcement: { memory, cpu, note } } as IStatus, trans);

  it('has words for all means', () => {
    expect(of('kubelet', 'kubelet')).toBe('Limits by the kubelet.');
    expect(of('cgroup-v2', 'cgroup-v2')).toBe('Limits by cgroup v2.');
    expect(of('watchdog', 'affinity', 'Less exact.')).toBe(
      'Limits by a watchdog (memory) and CPU affinity (CPU). Less exact.'
    );
    expect(of('new-means', 'new-means')).toBe('Limits by new-means.');
  });
});
