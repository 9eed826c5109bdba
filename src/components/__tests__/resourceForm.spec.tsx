import { nullTranslator } from '@jupyterlab/translation';
import { fireEvent, render, screen } from '@testing-library/react';
import * as React from 'react';
import { makeTemplate } from '../../__tests__/fakes';
import { GIB, MIB } from '../../quantities';
import { ICapacity, IOffer } from '../../request';
import { defaults, IResourceValue } from '../../resources';
import { ResourceForm } from '../resourceForm';

const trans = nullTranslator.load('jupyter_elastic');

/** The form with a memory, as its users have it. */
function Held(props: {
  offer: IOffer;
  capacity?: ICapacity;
  onChange: (value: IResourceValue, isValid: boolean) => void;
}): JSX.Element {
  const [value, setValue] = React.useState(defaults(props.offer));
  return (
    <ResourceForm
      offer={props.offer}
      value={value}
      capacity={props.capacity}
      trans={trans}
      onChange={(next, isValid) => {
        setValue(next);
        props.onChange(next, isValid);
      }}
    />
  );
}

function show(offer: IOffer, capacity?: ICapacity): jest.Mock {
  const onChange = jest.fn();
  render(<Held offer={offer} capacity={capacity} onChange={onChange} />);
  return onChange;
}

const field = (name: string): HTMLInputElement =>
  screen.getByRole('textbox', { name }) as HTMLInputElement;

describe('ResourceForm', () => {
  const offer = makeTemplate().resources;

  it('shows the defaults of the template, for eyes and ears', () => {
    show(offer);
    expect(field('CPU').value).toBe('1');
    expect(field('Memory').value).toBe('1 GiB');
    const slider = screen.getByRole('slider', { name: 'Memory' });
    expect(slider.getAttribute('aria-valuetext')).toBe('1 GiB');
  });

  it('moves the memory slider over sensible steps between the limits', () => {
    const onChange = show(offer);
    const slider = screen.getByRole('slider', { name: 'Memory' }) as HTMLInputElement;
    fireEvent.change(slider, { target: { value: slider.max } });
    expect(onChange).toHaveBeenLastCalledWith(
      expect.objectContaining({ memory: 8 * GIB }),
      true
    );
    fireEvent.change(slider, { target: { value: '0' } });
    expect(onChange).toHaveBeenLastCalledWith(
      expect.objectContaining({ memory: 128 * MIB }),
      true
    );
    expect(field('Memory').value).toBe('128 MiB');
  });

  it('takes any value between, as people write it', () => {
    const onChange = show(offer);
    fireEvent.change(field('Memory'), { target: { value: '1300 MB' } });
    expect(onChange).toHaveBeenLastCalledWith(
      { cpu: 1000, memory: 1300 * MIB, gpu: null },
      true
    );
    fireEvent.change(field('CPU'), { target: { value: '0.3' } });
    expect(onChange).toHaveBeenLastCalledWith(
      { cpu: 300, memory: 1300 * MIB, gpu: null },
      true
    );
  });

  it.each([
    ['lots', 'Write a quantity such as 512Mi.'],
    ['-1', 'Write a quantity such as 512Mi.'],
    ['', 'Write a quantity such as 512Mi.'],
    ['0', 'Between 128 MiB and 8 GiB.'],
    ['9 GiB', 'Between 128 MiB and 8 GiB.'],
    ['1 MiB', 'Between 128 MiB and 8 GiB.']
  ])('says what is wrong with %p', (text, problem) => {
    const onChange = show(offer);
    fireEvent.change(field('Memory'), { target: { value: text } });
    expect(onChange.mock.calls[onChange.mock.calls.length - 1][1]).toBe(false);
    expect(screen.getByRole('alert').textContent).toBe(problem);
    expect(field('Memory').getAttribute('aria-invalid')).toBe('true');
  });

  it('stays invalid while one of two fields is wrong', () => {
    const onChange = show(offer);
    fireEvent.change(field('Memory'), { target: { value: 'lots' } });
    fireEvent.change(field('CPU'), { target: { value: '2' } });
    expect(onChange.mock.calls[onChange.mock.calls.length - 1][1]).toBe(false);
    fireEvent.change(field('Memory'), { target: { value: '2' } });
    expect(onChange).toHaveBeenLastCalledWith(
      { cpu: 2000, memory: 2 * GIB, gpu: null },
      true
    );
  });

  it('steps by arrow keys in the field', () => {
    const onChange = show(offer);
    fireEvent.keyDown(field('Memory'), { key: 'ArrowUp' });
    expect(onChange).toHaveBeenLastCalledWith(
      expect.objectContaining({ memory: 1.25 * GIB }),
      true
    );
  });

  it('offers choices and nothing else where a template has some', () => {
    const onChange = show({
      ...offer,
      cpu: { minimum: '1', default: '2', maximum: '8', choices: ['1', '2', '8'] }
    });
    const select = screen.getByRole('combobox', { name: 'CPU' });
    expect([...select.querySelectorAll('option')].map(one => one.textContent)).toEqual([
      '1',
      '2',
      '8'
    ]);
    fireEvent.change(select, { target: { value: '8000' } });
    expect(onChange).toHaveBeenLastCalledWith(
      expect.objectContaining({ cpu: 8000 }),
      true
    );
  });

  it('has no GPU field where none is offered, and whole GPUs where some are', () => {
    const onChange = show({
      ...offer,
      gpu: { kinds: ['a100'], default: 0, maximum: 2 }
    });
    const select = screen.getByRole('combobox', { name: 'GPU' });
    expect(select.querySelectorAll('option')).toHaveLength(3);
    fireEvent.change(select, { target: { value: '2 a100' } });
    expect(onChange).toHaveBeenLastCalledWith(
      expect.objectContaining({ gpu: { kind: 'a100', count: 2 } }),
      true
    );
  });

  it('shows what is left, and warns without forbidding', () => {
    const onChange = show(offer, {
      cpu: { total: '8', used: '6', free: '2' },
      memory: { total: '16Gi', used: '14Gi', free: '2Gi' },
      gpus: []
    });
    expect(screen.getByText('2 GiB left')).toBeTruthy();
    fireEvent.change(field('Memory'), { target: { value: '4' } });
    expect(screen.getByText('only 2 GiB left')).toBeTruthy();
    expect(onChange.mock.calls[onChange.mock.calls.length - 1][1]).toBe(true);
  });

  it('says of how many cores it is that more is left', () => {
    show(offer, {
      cpu: { total: '8', used: '1100m', free: '6900m', cores: '2' },
      memory: { total: '16Gi', used: '14Gi', free: '2Gi' },
      gpus: []
    });
    expect(screen.getByText('6.9 left on 2 cores')).toBeTruthy();
  });

  it('says nothing of what is left where nobody has set a limit', () => {
    show(offer, {
      cpu: { total: null, used: '6', free: null },
      memory: { total: '16Gi', used: '16Gi', free: '0' },
      gpus: []
    });
    expect(screen.queryByText(/CPU left/)).toBeNull();
    expect(screen.getByText('only 0 KiB left')).toBeTruthy();
  });

  it('shows GPUs that a kernel has and its template offers no more', () => {
    const gpu = { kind: 'v100', count: 4 };
    render(
      <ResourceForm
        offer={{ ...offer, gpu: { kinds: ['a100'], default: 0, maximum: 1 } }}
        value={{ ...defaults(offer), gpu }}
        trans={trans}
        onChange={jest.fn()}
      />
    );
    const select = screen.getByRole('combobox', { name: 'GPU' }) as HTMLSelectElement;
    expect(select.selectedOptions[0].textContent).toBe('4 × v100');
    expect(select.options).toHaveLength(3);
  });

  it('has no slider for what is fixed', () => {
    show({ ...offer, cpu: { minimum: '1', default: '1', maximum: '1', choices: [] } });
    expect(screen.queryByRole('slider', { name: 'CPU' })).toBeNull();
  });
});
