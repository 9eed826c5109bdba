import { nullTranslator } from '@jupyterlab/translation';
import { fireEvent, render, screen } from '@testing-library/react';
import * as React from 'react';
import { makeTemplate } from '../../__tests__/fakes';
import { Remembered } from '../../remembered';
import { ElasticProblem } from '../../request';
import { IStartFormProps, StartForm } from '../startForm';

function makeProps(changes: Partial<IStartFormProps> = {}): IStartFormProps {
  return {
    templates: [
      makeTemplate(),
      makeTemplate({
        name: 'big',
        display_name: 'Big',
        warm: 0,
        target: 0,
        resources: {
          cpu: { minimum: '2', default: '4', maximum: '8', choices: [] },
          memory: { minimum: '1Gi', default: '8Gi', maximum: '64Gi', choices: [] },
          gpu: { kinds: ['a100'], default: 1, maximum: 2 }
        }
      })
    ],
    templateProblems: [],
    capacity: null,
    target: '',
    problem: null,
    isStarting: false,
    remembered: new Remembered(),
    iconUrl: path => path,
    trans: nullTranslator.load('jupyter_elastic'),
    onDismiss: jest.fn(),
    onStart: jest.fn(),
    ...changes
  };
}

const start = (): HTMLButtonElement =>
  screen.getByRole('button', { name: 'Start' }) as HTMLButtonElement;

describe('StartForm', () => {
  it('starts the first template with its defaults', () => {
    const props = makeProps();
    render(<StartForm {...props} />);
    expect(screen.getByText('2 warm')).toBeTruthy();
    fireEvent.click(start());
    expect(props.onStart).toHaveBeenCalledWith({
      template: 'py',
      resources: { cpu: '1', memory: '1Gi' }
    });
  });

  it('begins with the template of the current kernel', () => {
    render(<StartForm {...makeProps({ preferred: 'big' })} />);
    const select = screen.getByRole('combobox', { name: 'Template' });
    expect((select as HTMLSelectElement).value).toBe('big');
  });

  it('begins with what a link asks for, the rest as the template has it', () => {
    const remembered = new Remembered();
    remembered.noteChoice('big', { cpu: '2', memory: '16Gi' });
    const asked = { template: 'big', resources: { memory: '32Gi' } };
    const props = makeProps({ remembered, asked });
    render(<StartForm {...props} />);
    expect(screen.getByText('A link asks for this kernel.')).toBeTruthy();
    expect(props.onStart).not.toHaveBeenCalled();
    fireEvent.click(start());
    const resources = { cpu: '4', memory: '32Gi', gpu: { kind: 'a100', count: 1 } };
    expect(props.onStart).toHaveBeenCalledWith({ template: 'big', resources });
  });

  it('says what of a link cannot be had, and takes nothing else for it', () => {
    const lost = { template: 'lost', resources: {} };
    const { unmount } = render(<StartForm {...makeProps({ asked: lost })} />);
    expect(screen.getByText(/template "lost", which is not offered/)).toBeTruthy();
    unmount();
    const much = { template: 'big', resources: { memory: '900Gi' } };
    render(<StartForm {...makeProps({ asked: much })} />);
    expect(screen.getByText(/The link asks for 900 GiB/)).toBeTruthy();
  });

  it('begins with what was chosen last, unless it is offered no more', () => {
    const remembered = new Remembered();
    remembered.noteChoice('py', { cpu: '99', memory: '2Gi' });
    remembered.noteChoice('big', { cpu: '2', memory: '16Gi', gpu: null });
    const props = makeProps({ remembered });
    render(<StartForm {...props} />);
    fireEvent.click(start());
    const resources = { cpu: '2', memory: '16Gi' };
    expect(props.onStart).toHaveBeenLastCalledWith({ template: 'big', resources });
    const select = screen.getByRole('combobox', { name: 'Template' });
    fireEvent.change(select, { target: { value: 'py' } });
    expect(screen.getByText(/^Last time you had 99 CPU · 2 GiB\. /)).toBeTruthy();
    fireEvent.click(start());
    expect(props.onStart).toHaveBeenLastCalledWith({
      template: 'py',
      resources: { cpu: '1', memory: '1Gi' }
    });
  });

  it('says how long a start takes, by those there were', () => {
    const remembered = new Remembered();
    [0.3, 9, 0.2].forEach(one => remembered.noteStart('py', 'warm', one));
    remembered.noteStart('big', 'cold', 40.2);
    render(<StartForm {...makeProps({ remembered })} />);
    expect(screen.getByText('2 warm · ready in 0.3 s')).toBeTruthy();
    const select = screen.getByRole('combobox', { name: 'Template' });
    fireEvent.change(select, { target: { value: 'big' } });
    expect(screen.getByText('about 40 s')).toBeTruthy();
  });

  it('offers what would fit where there is no room for what was asked', () => {
    const problem = new ElasticProblem({ reason: 'QuotaFull', message: 'No room.' });
    const capacity = {
      cpu: { total: '8', used: '0', free: '8' },
      memory: { total: '4Gi', used: '3584Mi', free: '512Mi' },
      gpus: []
    };
    const props = makeProps({ problem, capacity });
    render(<StartForm {...props} />);
    fireEvent.click(screen.getByRole('button', { name: 'Start with 1 CPU · 512 MiB' }));
    expect(props.onStart).toHaveBeenCalledWith({
      template: 'py',
      resources: { cpu: '1', memory: '512Mi' }
    });
  });

  it('takes the defaults of another template, and what was set by hand', () => {
    const props = makeProps();
    render(<StartForm {...props} />);
    fireEvent.change(screen.getByRole('combobox', { name: 'Template' }), {
      target: { value: 'big' }
    });
    expect(screen.queryByText(/warm/)).toBeNull();
    fireEvent.change(screen.getByRole('textbox', { name: 'Memory' }), {
      target: { value: '12' }
    });
    fireEvent.change(screen.getByRole('textbox', { name: 'Name' }), {
      target: { value: ' train ' }
    });
    fireEvent.click(start());
    expect(props.onStart).toHaveBeenCalledWith({
      template: 'big',
      name: 'train',
      resources: { cpu: '4', memory: '12Gi', gpu: { kind: 'a100', count: 1 } }
    });
  });

  it('cannot start twice, nor with a value that cannot be had', () => {
    const props = makeProps();
    const { rerender } = render(<StartForm {...props} />);
    fireEvent.change(screen.getByRole('textbox', { name: 'Memory' }), {
      target: { value: '900' }
    });
    expect(start().disabled).toBe(true);
    rerender(<StartForm {...makeProps({ isStarting: true })} />);
    expect(start().disabled).toBe(true);
  });

  it('shows a refusal with its remedy', () => {
    const problem = new ElasticProblem({
      reason: 'QuotaFull',
      message: '1 GiB asked, 0.4 GiB free.',
      remedy: 'Stop a kernel.'
    });
    render(<StartForm {...makeProps({ problem })} />);
    const alert = screen.getByRole('alert');
    expect(alert.textContent).toContain('1 GiB asked, 0.4 GiB free.');
    expect(alert.textContent).toContain('Stop a kernel.');
  });

  it('says beside the button what a start loses', () => {
    const { rerender } = render(<StartForm {...makeProps({ loss: 'It ends.' })} />);
    expect(screen.getByRole('note').textContent).toContain('It ends.');
    expect(screen.getByRole('note').textContent).toContain('variables are lost');
    rerender(<StartForm {...makeProps({ loss: '' })} />);
    expect(screen.queryByRole('note')).toBeNull();
  });

  it('says what is wrong with templates that cannot be offered', () => {
    render(
      <StartForm
        {...makeProps({
          templates: [],
          templateProblems: [
            {
              title: 'resources.cpu: bad',
              status: 400,
              reason: 'BadTemplate',
              message: ''
            }
          ]
        })}
      />
    );
    expect(screen.getByText('No templates are offered.')).toBeTruthy();
    expect(screen.getByText(/resources\.cpu: bad/)).toBeTruthy();
  });
});
