import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';
import {
  ElasticProblem,
  ICapacity,
  IProblem,
  IStartRequest,
  ITemplate
} from '../request';
import { fitted, isTooMuch } from '../fitting';
import { IAsked } from '../link';
import { Remembered } from '../remembered';
import {
  defaults,
  IResourceValue,
  rememberedValue,
  showValue,
  showWish,
  toWish
} from '../resources';
import { warmBadge } from '../warmth';
import { Notice } from './notice';
import { ResourceForm } from './resourceForm';
import { Select } from './select';
import { useChanges } from './useChanges';

export interface IStartFormProps {
  templates: readonly ITemplate[];
  /** Templates that cannot be offered, and why. */
  templateProblems: readonly IProblem[];
  capacity: ICapacity | null;
  /** Which template to begin with. */
  preferred?: string;
  /** What a link asks for, which goes before all other choices. */
  asked?: IAsked;
  /** Where the kernel will be used, for the button; empty for a new notebook. */
  target: string;
  /** What will be lost by a start, if nothing else asks about it: one sentence. */
  loss?: string;
  /** Why the last attempt was refused. */
  problem: ElasticProblem | null;
  isStarting: boolean;
  /** Last choices, and how long starts took. */
  remembered: Remembered;
  /** Makes the path of an icon a URL. */
  iconUrl: (path: string) => string;
  trans: TranslationBundle;
  /** The user has read the problem. */
  onDismiss: () => void;
  onStart: (request: IStartRequest) => void;
}

/** Choose a template and resources, and start. Drawn again only when something of that changes. */
export const StartForm = React.memo(function StartForm(
  props: IStartFormProps
): JSX.Element {
  const { templates, trans, problem } = props;
  useChanges(props.remembered.changed);
  const id = React.useId();
  const [chosen, setChosen] = React.useState<string | null>(null);
  const [name, setName] = React.useState('');
  // What was set by hand; null for the template's defaults.
  const [wanted, setWanted] = React.useState<IResourceValue | null>(null);
  const [isValid, setIsValid] = React.useState(true);

  const { asked } = props;
  const template =
    templates.find(one => one.name === chosen) ??
    templates.find(one => one.name === asked?.template) ??
    templates.find(one => one.name === props.preferred) ??
    templates.find(one => one.name === props.remembered.template) ??
    templates[0];

  const broken = props.templateProblems.map(one => (
    <Notice
      key={one.title}
      kind="warning"
      message={trans.__('A template cannot be offered: %1', one.title)}
      remedy={one.remedy}
    />
  ));
  if (!template) {
    return (
      <>
        <Notice
          kind="info"
          message={trans.__('No templates are offered.')}
          remedy={trans.__(
            'Ask your administrator to configure c.ElasticKernels.templates.'
          )}
        />
        {broken}
      </>
    );
  }
  const isAsked = asked?.template === template.name;
  const usual = defaults(template.resources);
  const last = isAsked
    ? { gpu: usual.gpu, ...asked.resources }
    : props.remembered.wish(template.name);
  const again = rememberedValue(template.resources, last);
  const isOffered = templates.some(one => one.name === asked?.template);
  const value = wanted ?? again ?? usual;
  const badge = warmBadge(template, trans, props.remembered);
  const start = (chosenValue: IResourceValue): void => {
    const resources = toWish(chosenValue);
    props.onStart({
      template: template.name,
      resources,
      ...(name.trim() ? { name: name.trim() } : {})
    });
  };
  const fits =
    problem && isTooMuch(problem.reason)
      ? fitted(value, template.resources, props.capacity)
      : null;
  return (
    <form
      className="jp-Elastic-startForm"
      aria-label={trans.__('Start a kernel')}
      onSubmit={event => {
        event.preventDefault();
        if (isValid && !props.isStarting) {
          start(value);
        }
      }}
    >
      {asked && (
        <Notice
          kind={isOffered ? 'info' : 'warning'}
          message={
            isOffered
              ? trans.__('A link asks for this kernel.')
              : trans.__(
                  'A link asks for a kernel of the template "%1", which is not offered here.',
                  asked.template
                )
          }
          remedy={trans.__('Nothing starts before you press Start.')}
        />
      )}
      <div className="jp-Elastic-field">
        <div className="jp-Elastic-field-row">
          <label htmlFor={`${id}-template`}>{trans.__('Template')}</label>
          <Select
            id={`${id}-template`}
            value={template.name}
            title={template.display_name}
            disabled={props.isStarting}
            aria-describedby={`${id}-about`}
            onChange={event => {
              setChosen(event.target.value);
              setWanted(null);
              setIsValid(true);
            }}
          >
            {templates.map(one => (
              <option key={one.name} value={one.name}>
                {one.display_name}
              </option>
            ))}
          </Select>
        </div>
      </div>
      <div id={`${id}-about`} className="jp-Elastic-about">
        {template.icon_url && <img alt="" src={props.iconUrl(template.icon_url)} />}
        <span className="jp-Elastic-about-text">
          {template.description || trans.__('Language: %1', template.language)}
        </span>
        {badge && (
          <span
            className={`jp-Elastic-badge ${template.warm ? 'jp-Elastic-badge-warm' : ''}`}
            title={
              template.warm
                ? trans.__('Starts at once')
                : trans.__('None is ready now: the start takes longer')
            }
          >
            {badge}
          </span>
        )}
      </div>
      {last && !again && !wanted && (
        <div className="jp-Elastic-hint">
          {isAsked
            ? trans.__(
                'The link asks for %1. That is not offered; these are the defaults.',
                showWish(asked.resources)
              )
            : trans.__(
                'Last time you had %1. That is no longer offered; these are the defaults.',
                showWish(last)
              )}
        </div>
      )}
      <ResourceForm
        key={template.name}
        offer={template.resources}
        value={value}
        capacity={props.capacity}
        disabled={props.isStarting}
        trans={trans}
        onChange={(next, valid) => {
          setWanted(next);
          setIsValid(valid);
        }}
      />
      <div className="jp-Elastic-field">
        <div className="jp-Elastic-field-row">
          <label htmlFor={`${id}-name`}>{trans.__('Name')}</label>
          <input
            id={`${id}-name`}
            type="text"
            className="jp-mod-styled"
            maxLength={200}
            autoComplete="off"
            placeholder={trans.__('Optional')}
            value={name}
            disabled={props.isStarting}
            onChange={event => setName(event.target.value)}
          />
        </div>
      </div>
      {problem && (
        <Notice kind="error" message={problem.message} remedy={problem.remedy}>
          {fits && (
            <button
              type="button"
              className="jp-mod-styled"
              onClick={() => {
                setWanted(fits);
                start(fits);
              }}
            >
              {trans.__('Start with %1', showValue(fits))}
            </button>
          )}
          <button
            type="button"
            className="jp-mod-styled jp-mod-reject"
            onClick={props.onDismiss}
          >
            {trans.__('Dismiss')}
          </button>
        </Notice>
      )}
      {props.loss && (
        <Notice
          kind="warning"
          message={props.loss}
          remedy={trans.__('All its variables are lost.')}
        />
      )}
      <div className="jp-Elastic-buttons">
        <button
          type="submit"
          className="jp-mod-styled jp-mod-accept"
          disabled={!isValid || props.isStarting}
        >
          {trans.__('Start')}
        </button>
        <span className="jp-Elastic-hint jp-Elastic-target" title={props.target}>
          {props.target
            ? trans.__('for %1', props.target)
            : trans.__('in a new notebook')}
        </span>
      </div>
      {broken}
    </form>
  );
});
